//! A file that cannot be adopted now is adopted later.

use std::time::Duration;

use audit_core::Time;
use audit_core::spool::{SpoolConfig, SpoolNotice, SpoolReply, SpoolWorker};
use tempfile::TempDir;

use super::codec;
use super::file::{SpoolFile, batch};
use super::store::Directory;
use crate::audit::AuditEntry;

const NAME: &str = "018f3a2e-7b1c-7def-8000-0123456789ab";

#[test]
fn a_file_that_does_not_say_for_whom_it_is_is_reported_once_and_adopted_once_it_is_repaired() {
    let (dir, origin) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = dir.path().join(format!("{NAME}.spool"));
    std::fs::write(&path, [0xA5; 5_000]).unwrap();
    let config = SpoolConfig::new("here", u64::MAX);
    let scan = config.scan_interval;
    let mut worker = SpoolWorker::new(Directory::new(dir.path(), None), config, Time::START);
    let mut now = Duration::ZERO;
    let mut tick = || {
        let mut replies = Vec::new();
        worker.tick(Time::after(now), &mut replies);
        now += scan;
        let notices = replies.into_iter().filter_map(|reply| match reply {
            SpoolReply::Notice(notice) => Some(notice),
            _ => None,
        });
        notices.collect::<Vec<_>>()
    };
    assert!(matches!(&*tick(), [SpoolNotice::UnknownTarget { .. }]));
    for _ in 0..3 {
        assert_eq!(tick(), []);
    }
    let mut file = SpoolFile::create(origin.path(), NAME, "here").unwrap();
    let row = AuditEntry::new("repaired").into();
    file.commit(&[batch(codec::encode(std::iter::once(&row)))], &[])
        .unwrap();
    drop(file);
    std::fs::copy(origin.path().join(format!("{NAME}.spool")), &path).unwrap();
    assert!(matches!(&*tick(), [SpoolNotice::Adopted { batches: 1, .. }]));
}
