//! A position on SQLite. One transaction writes at a time, so the order in which rows are numbered is that of commits.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::FeedError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// What the migration put into this file.
    pub(super) file: Uuid,
    /// The number of the last row that was examined.
    pub(super) seq: i64,
    /// The id of that row. None before the first one.
    pub(super) id: Option<Uuid>,
}

/// What the file says.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) id: Uuid,
    /// The number of the newest row, and its id.
    pub(super) newest: i64,
    pub(super) newest_id: Option<Uuid>,
    /// The id of the row that has the place's number.
    pub(super) at_place: Option<Uuid>,
}

impl Place {
    pub(super) fn beginning(file: &File) -> Self {
        Self {
            file: file.id,
            seq: 0,
            id: None,
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.seq >= 0 && (self.seq == 0) == self.id.is_none()
    }

    /// Checks that the place is one of this file, and that the file is no older copy.
    pub(super) fn check(&self, file: &File) -> Result<(), FeedError> {
        if self.file != file.id {
            Err(FeedError::OtherDatabase("file"))
        } else if self.seq > file.newest {
            Err(FeedError::Backwards {
                position: self.seq,
                server: file.newest,
            })
        } else if self.id != file.at_place {
            Err(FeedError::LastRowMissing)
        } else {
            Ok(())
        }
    }
}
