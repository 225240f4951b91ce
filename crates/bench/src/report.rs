//! What a run has shown: as tables, as JSON, and beside an earlier run.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    case::{Figures, Unit},
    pace::Pace,
};

/// What a case has shown of every server.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) figures: Vec<Figures>,
}

/// What a run has shown.
pub(crate) struct Report {
    pace: Pace,
    cases: Vec<Measured>,
}

/// By case, then by server: its cost beside the raw server's. The rest of a file is for people.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ratios {
    ratios: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Ratios {
    /// Reads what an earlier run has written.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} has no ratios of a run", path.display()))
    }
}

impl Report {
    pub(crate) fn new(pace: Pace, cases: Vec<Measured>) -> Self {
        Self { pace, cases }
    }

    /// Two tables: what the servers cost, and what the generator saw.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:18}{:20}{:>9}{:>11}{:>20}{:>11}{:>20}",
            "server's cost", "", "raw", "sealed", "to raw", "plain", "to raw"
        );
        for Measured { name, unit, figures } in &self.cases {
            let _ = write!(text, "{name:18}{:20}", unit.text());
            for figures in figures {
                let width = if figures.ratio.is_some() { 11 } else { 9 };
                let _ = write!(text, "{:>width$}", cost(*unit, figures.cost));
                if let Some(ratio) = figures.ratio {
                    let range = format!("({:.2}–{:.2})", ratio.lowest, ratio.highest);
                    let _ = write!(text, "{:>7} {range:>12}", format!("×{:.2}", ratio.median));
                }
            }
            text.push('\n');
        }
        let _ = writeln!(text, "\n{:18}{:20}{:>17}{:>17}{:>17}", "by the clock", "", "raw", "sealed", "plain");
        for Measured { name, figures, .. } in &self.cases {
            let mut line = |what: &str, cell: &dyn Fn(&Figures) -> Option<String>| {
                let cells: Vec<String> = figures.iter().filter_map(cell).collect();
                if !cells.is_empty() {
                    let _ = write!(text, "{name:18}{what:20}");
                    let _ = writeln!(text, "{}", cells.iter().map(|cell| format!("{cell:>17}")).collect::<String>());
                }
            };
            line("a second", &|figures| figures.per_second.map(|rate| format!("{rate:.0}")));
            line("a commit", &|figures| figures.shared.map(|shared| format!("{shared:.1}")));
            line("µs p50 / p99", &|figures| {
                figures.latency.map(|latency| format!("{:.0} / {:.0}", latency.p50, latency.p99))
            });
        }
        text
    }

    /// The same as JSON: the ratios, which can be compared, and everything as it was measured.
    pub(crate) fn json(&self) -> Result<String> {
        let figures: BTreeMap<_, _> = self.cases.iter().map(|case| (case.name, details(case))).collect();
        let report = json!({ "pace": self.pace.name, "ratios": self.ratios().ratios, "figures": figures });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }

    /// What has become of the ratios.
    pub(crate) fn against(&self, earlier: &Ratios) -> Comparison {
        let tolerance = |case: &str| {
            let unit = self.cases.iter().find(|measured| measured.name == case).map(|measured| measured.unit);
            unit.map_or(0.0, Unit::tolerance)
        };
        compare(&earlier.ratios, &self.ratios().ratios, tolerance)
    }

    fn ratios(&self) -> Ratios {
        let of = |figures: &Figures| Some((figures.subject.name().to_owned(), round(figures.ratio?.median)));
        let ratios = self.cases.iter().map(|case| (case.name.to_owned(), case.figures.iter().filter_map(of).collect()));
        Ratios { ratios: ratios.collect() }
    }
}

/// One ratio, then and now; `None` where there was none.
#[derive(Debug, PartialEq)]
struct Change {
    case: String,
    subject: String,
    then: Option<f64>,
    now: f64,
    tolerance: f64,
}

impl Change {
    /// 0 is no change, 1 is twice the cost.
    fn change(&self) -> Option<f64> {
        self.then.map(|then| self.now / then - 1.0)
    }
}

/// The ratios of a run beside those of an earlier one.
pub(crate) struct Comparison(Vec<Change>);

impl Comparison {
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:18}{:8}{:>10}{:>10}{:>10}\n", "ratio to raw", "", "then", "now", "change");
        for change in &self.0 {
            let then = change.then.map_or("–".into(), |then| format!("×{then:.2}"));
            let percent = change.change().map_or("new".into(), |change| format!("{:+.0} %", 100.0 * change));
            let now = format!("×{:.2}", change.now);
            let _ = writeln!(text, "{:18}{:8}{then:>10}{now:>10}{percent:>10}", change.case, change.subject);
        }
        text
    }

    /// What has become worse by more than its tolerance.
    pub(crate) fn worse(&self) -> Vec<String> {
        let worse = self.0.iter().filter(|change| change.change().is_some_and(|by| by > change.tolerance));
        worse
            .map(|change| {
                format!("{} of {} by more than {:.0} %", change.case, change.subject, 100.0 * change.tolerance)
            })
            .collect()
    }
}

type Table = BTreeMap<String, BTreeMap<String, f64>>;

/// What was not run this time is passed over.
fn compare(then: &Table, now: &Table, tolerance: impl Fn(&str) -> f64) -> Comparison {
    let changes = now.iter().flat_map(|(case, subjects)| {
        let tolerance = tolerance(case);
        subjects.iter().map(move |(subject, now)| Change {
            case: case.clone(),
            subject: subject.clone(),
            then: then.get(case).and_then(|subjects| subjects.get(subject)).copied(),
            now: *now,
            tolerance,
        })
    });
    Comparison(changes.collect())
}

fn details(case: &Measured) -> serde_json::Value {
    let of = |figures: &Figures| {
        let mut details = json!({ "cost": round(figures.cost) });
        if let Some(rate) = figures.per_second {
            details["per_second"] = json!(rate.round());
        }
        if let Some(shared) = figures.shared {
            details["per_commit"] = json!(round(shared));
        }
        if let Some(latency) = figures.latency {
            details["p50_us"] = json!(latency.p50.round());
            details["p99_us"] = json!(latency.p99.round());
        }
        if let Some(ratio) = figures.ratio {
            details["ratio"] = json!([round(ratio.lowest), round(ratio.median), round(ratio.highest)]);
        }
        details
    };
    let mut details = json!({ "unit": case.unit.text() });
    for figures in &case.figures {
        details[figures.subject.name()] = of(figures);
    }
    details
}

/// To what means something.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn cost(unit: Unit, cost: f64) -> String {
    match unit {
        Unit::Processor(_) | Unit::Disk(_) => format!("{cost:.2}"),
        Unit::Memory(_) => format!("{cost:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sealed: f64) -> Table {
        [("idle".to_owned(), [("sealed".to_owned(), sealed)].into())].into()
    }

    #[test]
    fn a_ratio_that_got_worse_beyond_its_tolerance_is_named() {
        let to = |now: f64| compare(&table(2.0), &table(now), |_| 0.1).worse();
        assert_eq!(to(2.21), ["idle of sealed by more than 10 %"]);
        assert!(to(2.19).is_empty());
        assert!(to(0.1).is_empty(), "better is never too much");
    }

    #[test]
    fn a_case_that_was_not_there_is_new_and_no_failure() {
        let comparison = compare(&Table::new(), &table(9.0), |_| 0.1);
        assert!(comparison.worse().is_empty());
        assert!(comparison.table().contains("new"));
    }
}
