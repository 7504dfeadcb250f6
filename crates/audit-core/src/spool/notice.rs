//! The conditions of the spool that are reported to the operator.

use std::fmt;

/// A condition of the spool for the operator; the driver logs it, once for each change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolNotice {
    /// The file of a process that ended was adopted.
    Adopted {
        /// The file.
        file: String,
        /// How many batches it holds.
        batches: u64,
    },
    /// A file that nobody uses could not be adopted; it is tried again at the next scan.
    AdoptionFailed {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// A newer version of this program wrote a file; it is left alone.
    NewerVersion {
        /// The file.
        file: String,
        /// The version of its format.
        version: i64,
    },
    /// A damaged file does not say which database it is for; it is left alone.
    UnknownTarget {
        /// The file.
        file: String,
        /// The damage.
        reason: String,
    },
    /// A file is damaged; what can be read of it is copied.
    Damaged {
        /// The file.
        file: String,
        /// The damage.
        reason: String,
    },
    /// The writer's file was removed, or its lock was taken; what is in it is copied from the open file.
    Gone {
        /// The file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// What could be read of a damaged file was copied.
    Salvaged {
        /// The file.
        file: String,
        /// Its new name; none if it was gone.
        renamed: Option<String>,
        /// How many batches were copied.
        batches: u64,
    },
    /// What can be read of a damaged file was not copied, or the file not renamed. It stays as it is and is
    /// tried again at the next scan.
    SalvageFailed {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// Damaged lines of a batch are in the quarantine.
    LinesQuarantined {
        /// The file.
        file: String,
        /// How many lines.
        lines: u64,
    },
    /// Damaged lines were not put into the quarantine; their batches stay in the file.
    LinesNotQuarantined {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// Batches could not be read; they stay in the file and are read again later.
    ReadFailed {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// Batches that were committed could not be removed; that is repeated, and what stays is found stored.
    RemovalFailed {
        /// The file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The directory could not be searched for files; it is tried again at the next scan.
    ScanFailed {
        /// Why not.
        reason: String,
    },
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeLevel {
    /// Something unusual that needs nobody.
    Warning,
    /// Entries may be lost or wait until an operator acts.
    Error,
}

impl SpoolNotice {
    /// The file that it is about; none if it is about the directory.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Adopted { file, .. }
            | Self::AdoptionFailed { file, .. }
            | Self::NewerVersion { file, .. }
            | Self::UnknownTarget { file, .. }
            | Self::Damaged { file, .. }
            | Self::Gone { file, .. }
            | Self::Salvaged { file, .. }
            | Self::SalvageFailed { file, .. }
            | Self::LinesQuarantined { file, .. }
            | Self::LinesNotQuarantined { file, .. }
            | Self::ReadFailed { file, .. }
            | Self::RemovalFailed { file, .. } => Some(file),
            Self::ScanFailed { .. } => None,
        }
    }

    /// How much it matters.
    pub fn level(&self) -> NoticeLevel {
        match self {
            Self::Adopted { .. } | Self::AdoptionFailed { .. } | Self::RemovalFailed { .. } => {
                NoticeLevel::Warning
            }
            _ => NoticeLevel::Error,
        }
    }
}

impl fmt::Display for SpoolNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopted { file, batches } => write!(f, "adopted spool file {file} with {batches} batches"),
            Self::AdoptionFailed { file, reason } => {
                write!(
                    f,
                    "spool file {file} cannot be adopted now, it is tried again later: {reason}"
                )
            }
            Self::NewerVersion { file, version } => write!(
                f,
                "spool file {file} has format version {version}, which is newer than this program: it is left \
                 alone (replay it with the newer version)"
            ),
            Self::UnknownTarget { file, reason } => write!(
                f,
                "spool file {file} is damaged and does not say which database it is for: it is left alone \
                 (`auditlog spool replay --any-target` writes what can be read): {reason}"
            ),
            Self::Damaged { file, reason } => write!(f, "spool file {file} is damaged: {reason}"),
            Self::Gone { file, reason } => {
                write!(
                    f,
                    "spool file {file} is gone, its batches are copied to a new one: {reason}"
                )
            }
            Self::Salvaged {
                file,
                renamed: Some(renamed),
                batches,
            } => write!(
                f,
                "{batches} batches of the damaged spool file {file} were copied; it was renamed to {renamed}"
            ),
            Self::Salvaged {
                file,
                renamed: None,
                batches,
            } => {
                write!(f, "{batches} batches of spool file {file} were copied")
            }
            Self::SalvageFailed { file, reason } => write!(
                f,
                "spool file {file} cannot be copied now, it stays as it is and is tried again later: {reason}"
            ),
            Self::LinesQuarantined { file, lines } => {
                write!(
                    f,
                    "{lines} damaged lines of spool file {file} were put into the quarantine"
                )
            }
            Self::LinesNotQuarantined { file, reason } => write!(
                f,
                "damaged lines of spool file {file} cannot be put into the quarantine, they stay there: {reason}"
            ),
            Self::ReadFailed { file, reason } => {
                write!(
                    f,
                    "spool file {file} cannot be read now, it is tried again later: {reason}"
                )
            }
            Self::RemovalFailed { file, reason } => write!(
                f,
                "committed batches cannot be removed from spool file {file}, it is tried again later: {reason}"
            ),
            Self::ScanFailed { reason } => {
                write!(
                    f,
                    "the spool directory cannot be searched, it is tried again later: {reason}"
                )
            }
        }
    }
}
