//! How long each piece of the hot path takes: `cargo bench -p icounts`, or with the name of a piece
//! behind `--`. Times belong to the machine and the moment; `run` counts instructions, which do not.
#![allow(missing_docs, clippy::panic, reason = "criterion's macros; nothing here sees input")]

use criterion::{Criterion, criterion_group, criterion_main};
use icounts::SCENARIOS;

fn hot_path(criterion: &mut Criterion) {
    for scenario in SCENARIOS {
        criterion.bench_function(scenario.name, |bencher| {
            bencher.iter_custom(|times| {
                let times = usize::try_from(times).unwrap_or(usize::MAX);
                (scenario.run)(times).unwrap_or_else(|error| panic!("{}: {error}", scenario.name))
            });
        });
    }
}

criterion_group!(pieces, hot_path);
criterion_main!(pieces);
