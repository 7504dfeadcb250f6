//! Resource limits of the operating system, for a process that lacks something.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::flood::memory;

/// A resource limit of the operating system.
pub(super) trait Limit {
    fn set(&self);
    fn lift(&self);
}

/// No address space for the stack of a thread, and little for everything else.
pub(super) struct NoThread;

impl Limit for NoThread {
    fn set(&self) {
        lower(Resource::As, (memory("VmSize:") as u64 + 1_024) << 10);
        assert!(
            std::thread::Builder::new().spawn(|| ()).is_err(),
            "a thread can still be started"
        );
    }

    fn lift(&self) {
        raise(Resource::As);
    }
}

/// No file descriptor.
pub(super) struct NoFile;

impl Limit for NoFile {
    fn set(&self) {
        lower(Resource::Nofile, 0);
        assert!(std::fs::File::open("/").is_err(), "a file can still be opened");
    }

    fn lift(&self) {
        raise(Resource::Nofile);
    }
}

fn lower(resource: Resource, to: u64) {
    let before = getrlimit(resource);
    setrlimit(
        resource,
        Rlimit {
            current: Some(to),
            ..before
        },
    )
    .unwrap();
}

fn raise(resource: Resource) {
    let before = getrlimit(resource);
    setrlimit(
        resource,
        Rlimit {
            current: before.maximum,
            ..before
        },
    )
    .unwrap();
}
