//! Interleaved turns of the contenders: A B C A B C …

use crate::Result;
use crate::args::Options;
use crate::clock::Sample;
use crate::contenders::Turn;
use crate::progress;
use crate::result::Series;
use crate::server::BenchServer;

/// A contender and how it is run.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The rows of each turn.
    pub(crate) rows: usize,
    pub(crate) turn: Turn,
}

impl Contender {
    pub(crate) fn new(name: &'static str, rows: usize, turn: Turn) -> Self {
        Self { name, rows, turn }
    }
}

/// The samples of each contender, one for each round.
pub(crate) struct Rounds {
    samples: Vec<(&'static str, Vec<Sample>)>,
}

impl Rounds {
    /// Runs every contender once in each round.
    pub(crate) async fn run(
        part: &'static str,
        server: &BenchServer,
        options: &Options,
        contenders: &[Contender],
    ) -> Result<Self> {
        let rounds = options.rounds;
        let contenders: Vec<_> = contenders
            .iter()
            .filter(|contender| options.takes_part(contender.name))
            .collect();
        let bar = progress::bar(part, rounds * contenders.len());
        let mut samples: Vec<_> = contenders
            .iter()
            .map(|contender| (contender.name, Vec::new()))
            .collect();
        for _ in 0..rounds {
            for (Contender { name, rows, turn }, (_, samples)) in contenders.iter().copied().zip(&mut samples)
            {
                bar.set_message(*name);
                let sample = turn(server, *rows)
                    .await
                    .map_err(|error| format!("{part}, {name}: {error}"))?;
                samples.push(sample);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(Self { samples })
    }

    /// One figure of a contender's samples; empty if it was not measured.
    pub(crate) fn series(
        &self,
        name: &'static str,
        unit: &'static str,
        figure: impl Fn(&Sample) -> f64,
    ) -> Series {
        let samples = self
            .samples
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, samples)| samples);
        let values = samples.into_iter().flatten().map(figure).collect();
        Series {
            name: name.to_owned(),
            unit,
            values,
        }
    }

    /// A contender's rows per second.
    pub(crate) fn rate(&self, name: &'static str) -> Series {
        self.series(name, "rows/s", Sample::rate)
    }
}
