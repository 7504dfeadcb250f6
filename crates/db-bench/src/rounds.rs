//! In which order do contenders have their turns? A B C A B C …

use crate::Fallible;
use crate::args::Options;
use crate::clock::Sample;
use crate::peers::Turn;
use crate::place::Place;
use crate::progress;
use crate::row::Series;

/// One who takes part.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The rows of each turn.
    pub(crate) rows: usize,
    pub(crate) turn: Turn,
}

/// What each contender did in each round.
pub(crate) struct Rounds {
    samples: Vec<(&'static str, Vec<Sample>)>,
}

impl Rounds {
    /// Lets every contender have its turn, round by round.
    pub(crate) async fn run(
        part: &'static str,
        place: &Place,
        options: &Options,
        contenders: &[Contender],
    ) -> Fallible<Self> {
        let rounds = options.rounds;
        let contenders: Vec<_> = contenders
            .iter()
            .filter(|who| options.takes_part(who.name))
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
                let sample = turn(place, *rows)
                    .await
                    .map_err(|error| format!("{part}, {name}: {error}"))?;
                samples.push(sample);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(Self { samples })
    }

    /// One figure of a contender's samples; empty if it took no part.
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

    /// A contender's rows for each second.
    pub(crate) fn rate(&self, name: &'static str) -> Series {
        self.series(name, "rows/s", Sample::rate)
    }
}
