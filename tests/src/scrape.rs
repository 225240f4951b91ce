//! What the internal listener tells, read as strictly as Prometheus does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::raw::{self, http};

/// A metric: its type, and its samples by name and labels as they are written.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The names of the labels, without a histogram's own.
    pub labels: BTreeSet<String>,
}

/// One reading of all metrics.
#[derive(Debug, Default)]
pub struct Scrape {
    /// By the name of the metric.
    pub families: BTreeMap<String, Family>,
    samples: BTreeMap<String, f64>,
}

/// Asks for the metrics in the older text, which names a counter's family as its samples.
///
/// # Errors
/// When they are not there or not well formed.
pub async fn scrape(internal: SocketAddr) -> raw::Result<Scrape> {
    let answer = http(internal, &format!("GET /metrics HTTP/1.1\r\nHost: {internal}")).await?;
    let (head, body) = answer.text.split_once("\r\n\r\n").ok_or("no body")?;
    if answer.status != 200 || !head.contains("content-type: text/plain; version=0.0.4; charset=utf-8") {
        return Err(head.into());
    }
    Scrape::parse(body)
}

impl Scrape {
    /// Reads Prometheus's text.
    ///
    /// # Errors
    /// Names the line that is not well formed.
    pub fn parse(text: &str) -> raw::Result<Self> {
        let mut scrape = Self::default();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            scrape.line(line, &mut helped).map_err(|problem| format!("{problem}: {line}"))?;
        }
        scrape.check_histograms()?;
        Ok(scrape)
    }

    fn line<'a>(&mut self, line: &'a str, helped: &mut BTreeSet<&'a str>) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or("no help")?;
            let fresh = is_name(name) && !text.is_empty() && helped.insert(name);
            return if fresh { Ok(()) } else { Err("a wrong or a second help") };
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if !helped.contains(name) || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err("no help, or a type that is none");
            }
            if kind == "counter" && !name.ends_with("_total") {
                return Err("a counter must end in _total");
            }
            let family = Family { kind: kind.into(), labels: BTreeSet::new() };
            return match self.families.insert(name.into(), family) {
                Some(_) => Err("a second type"),
                None => Ok(()),
            };
        }
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, label_names(labels.strip_suffix('}').ok_or("no end of the labels")?)?),
            None => (series, Vec::new()),
        };
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let of_histogram = |name: &&str| self.families.get(*name).is_some_and(|family| family.kind == "histogram");
        let family = base.filter(of_histogram).unwrap_or(name);
        let family = self.families.get_mut(family).ok_or("a sample without a type")?;
        family.labels.extend(labels.into_iter().filter(|label| *label != "le").map(str::to_owned));
        let value = value.parse().map_err(|_| "no number")?;
        match self.samples.insert(series.to_owned(), value) {
            Some(_) => Err("a second sample"),
            None => Ok(()),
        }
    }

    /// Buckets include those below them, and the last one has all.
    fn check_histograms(&self) -> raw::Result<()> {
        for (series, all) in self.samples.iter().filter(|(series, _)| series.contains("le=\"+Inf\"")) {
            let (name, labels) = series.split_once("_bucket{").ok_or("a bucket that is none")?;
            let rest = labels.trim_end_matches('}').replace("le=\"+Inf\"", "");
            let rest = rest.trim_matches(',');
            let count = if rest.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{rest}}}") };
            let is_of_it = |series: &str| {
                let bucket = series.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{"));
                bucket.is_some_and(|labels| labels.contains(rest))
            };
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (series, value) in self.samples.iter().filter(|(series, _)| is_of_it(series)) {
                let bound = series.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).ok_or("no bound")?.0;
                buckets.push((bound.parse()?, *value));
            }
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            if !buckets.is_sorted_by(|one, other| one.1 <= other.1) || self.samples.get(&count) != Some(all) {
                return Err(format!("the buckets of {series} do not add up").into());
            }
        }
        Ok(())
    }

    /// The value of a series, written as in the exposition.
    ///
    /// # Panics
    /// When there is none: every series is there from the start.
    pub fn get(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// Every series whose value is not 0 and does not depend on time or on how much is sealed with what.
    pub fn counts(&self) -> BTreeMap<&str, f64> {
        let depends = ["_bucket", "_sum", "moorline_record", "moorline_build_info", "moorline_undelivered"];
        let counts = self
            .samples
            .iter()
            .filter(|(series, value)| **value != 0.0 && !depends.iter().any(|part| series.contains(part)));
        counts.map(|(series, value)| (series.trim_start_matches("moorline_"), *value)).collect()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// The names in `a="x",b="y"`, where values may hold anything behind a backslash.
fn label_names(mut labels: &str) -> Result<Vec<&str>, &'static str> {
    let mut names = Vec::new();
    loop {
        let (name, rest) = labels.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name) {
            return Err("a label's name is none");
        }
        names.push(name);
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        match &rest[end.ok_or("a value without an end")? + 1..] {
            "" => return Ok(names),
            more => labels = more.strip_prefix(',').ok_or("no comma between labels")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_would_refuse_is_refused() {
        let head = "# HELP a_total A.\n# TYPE a_total counter\n";
        let fine = format!("{head}a_total{{x=\"say \\\"}}, {{\\\\\",y=\"\"}} 1\n");
        assert!(Scrape::parse(&fine).is_ok(), "{fine}");
        for bad in [
            "a_total 1",
            "# TYPE a_total counter\na_total 1",
            "# HELP a A.\n# TYPE a counter\na 1",
            "# HELP a A.\n# TYPE a info\na 1",
            &format!("{head}{head}"),
            &format!("{head}a_total 1\na_total 2"),
            &format!("{head}a_total one"),
            &format!("{head}a_total{{x=\"1}} 1"),
            &format!("{head}a_total{{x=\"1\" y=\"2\"}} 1"),
            "# HELP h H.\n# TYPE h histogram\nh_count 3\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 2",
            "# HELP h H.\n# TYPE h histogram\nh_count 2\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 2",
        ] {
            assert!(Scrape::parse(bad).is_err(), "{bad}");
        }
    }
}
