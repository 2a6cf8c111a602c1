//! Histograms of times: what is said of them, and the file that plotters of such histograms read.

use crate::clock::float;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt::Write as _;

/// Steps for each halving of what is left to 100 %.
const TICKS_PER_HALF: u32 = 5;

/// Percentiles in µs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Latency {
    /// Times counted.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 90 of 100 are below.
    pub(crate) p90_us: f64,
    /// 99 of 100 are below.
    pub(crate) p99_us: f64,
    /// 999 of 1000 are below.
    pub(crate) p999_us: f64,
    /// Largest.
    pub(crate) max_us: f64,
    /// All percentiles: quantile and µs.
    pub(crate) percentiles: Vec<(f64, f64)>,
}

impl Latency {
    /// Reads the percentiles of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |quantile: f64| float(histogram.value_at_quantile(quantile)) / 1000.0;
        let steps = histogram.iter_quantiles(TICKS_PER_HALF);
        let percentiles = steps
            .map(|step| (step.quantile_iterated_to(), float(step.value_iterated_to()) / 1000.0))
            .collect();
        Self {
            count: histogram.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: float(histogram.max()) / 1000.0,
            percentiles,
        }
    }
}

/// The percentiles in the text form of `HdrHistogram`, values in µs.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    // Writing to a string cannot fail.
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let us = float(step.value_iterated_to()) / 1000.0;
        let quantile = step.quantile_iterated_to();
        let count = histogram.count_between(0, step.value_iterated_to());
        write!(out, "{us:12.3} {quantile:2.12} {count:10}").ok();
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile)).ok();
        }
        out.push('\n');
    }
    let us = |ns: f64| ns / 1000.0;
    let (mean, deviation) = (us(histogram.mean()), us(histogram.stdev()));
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]").ok();
    let (max, count) = (us(float(histogram.max())), histogram.len());
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {count:12}]").ok();
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", 64, 2048).ok();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rise_to_the_largest() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for us in 1..=1000 {
            histogram.record(us * 1000).unwrap();
        }
        let latency = Latency::of(&histogram);
        assert_eq!(latency.count, 1000);
        assert!((latency.p50_us - 500.0).abs() < 1.0 && (latency.p99_us - 990.0).abs() < 1.0);
        assert!(latency.percentiles.windows(2).all(|pair| pair[0] <= pair[1]));
        let (quantile, us) = *latency.percentiles.last().unwrap();
        assert!((quantile - 1.0).abs() < 1e-9 && us >= 1000.0);
    }

    #[test]
    fn file_has_columns_and_a_foot() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record_n(2_000, 99).unwrap();
        histogram.record(50_000).unwrap();
        let text = hgrm(&histogram);
        let rows: Vec<&str> = text.lines().skip(2).take_while(|l| !l.starts_with('#')).collect();
        assert!(rows[0].trim_start().starts_with("2.000 "), "{text}");
        let last: Vec<&str> = rows.last().unwrap().split_ascii_whitespace().collect();
        assert_eq!((last[1], last[2], last.len()), ("1.000000000000", "100", 3));
        assert!(text.contains("Total count    =          100]"));
    }
}
