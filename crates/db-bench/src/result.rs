//! A row of the results, with its goal.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::stats::{self, Spread};

/// One measure of a contender, with a value for each round or block.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

/// A bound on a row's ratio, or on its median where it has no reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// One row of the results.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResultRow {
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) unit: &'static str,
    pub(crate) reference: Option<String>,
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<Goal>,
    pub(crate) met: Option<bool>,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            values: Vec::new(),
        }
    }

    /// The row without a reference. `None` if nothing was measured.
    pub(crate) fn row(&self, goal: Option<Goal>) -> Option<ResultRow> {
        let spread = Spread::of(&self.values)?;
        let met = goal.map(|goal| goal.is_met(spread.median));
        Some(ResultRow {
            goal,
            met,
            ..self.plain(spread)
        })
    }

    /// The row compared with a reference from the same rounds. `None` if one of the two was not measured.
    pub(crate) fn against(&self, reference: &Self, goal: Option<Goal>) -> Option<ResultRow> {
        let spread = Spread::of(&self.values)?;
        let ratio = stats::ratio(&self.values, &reference.values)?;
        let met = goal.map(|goal| goal.is_met(ratio));
        let reference = Some(reference.name.clone());
        Some(ResultRow {
            reference,
            ratio: Some(ratio),
            goal,
            met,
            ..self.plain(spread)
        })
    }

    fn plain(&self, Spread { median, min, max }: Spread) -> ResultRow {
        let (name, unit) = (self.name.clone(), self.unit);
        ResultRow {
            name,
            median,
            min,
            max,
            unit,
            reference: None,
            ratio: None,
            goal: None,
            met: None,
        }
    }
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[f64]) -> Series {
        Series {
            name: name.to_owned(),
            unit: "rows/s",
            values: values.to_vec(),
        }
    }

    #[test]
    fn a_goal_is_met_at_its_bound() {
        assert!(Goal::AtLeast(1.25).is_met(1.25) && !Goal::AtLeast(1.25).is_met(1.249));
        assert!(Goal::AtMost(1.15).is_met(1.15) && !Goal::AtMost(1.15).is_met(1.151));
        assert!(!Goal::AtMost(1.0).is_met(f64::NAN));
    }

    #[test]
    fn a_goal_applies_to_the_ratio_or_without_one_to_the_median() {
        let (ours, theirs) = (
            series("ours", &[90.0, 100.0, 110.0]),
            series("theirs", &[9.0, 10.0, 11.0]),
        );
        let row = ours.against(&theirs, Some(Goal::AtLeast(10.0))).unwrap();
        assert_eq!(
            (row.ratio, row.met, row.reference.as_deref()),
            (Some(10.0), Some(true), Some("theirs"))
        );
        let row = ours.against(&theirs, Some(Goal::AtLeast(10.5))).unwrap();
        assert_eq!(row.met, Some(false));
        let row = ours.row(Some(Goal::AtMost(99.0))).unwrap();
        assert_eq!((row.median, row.ratio, row.met), (100.0, None, Some(false)));
        assert_eq!(ours.row(None).unwrap().met, None);
    }

    #[test]
    fn a_series_that_was_not_measured_has_no_row() {
        assert!(series("skipped", &[]).row(None).is_none());
        let ours = series("ours", &[1.0]);
        assert!(
            ours.against(&series("skipped", &[]), Some(Goal::AtLeast(1.0)))
                .is_none()
        );
    }
}
