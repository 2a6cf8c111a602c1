//! `culex log`: looks at the log of a broker that is not running.

use super::failure::{Failure, status};
use super::records::{Fields, describe};
use crate::store::image::Counts;
use crate::store::{Image, Place, Wall, decode};
use shards::disk::{DirectoryError, Examination, read_segment_file};
use shards::log::{Mode, Record, Recovered, Verdict};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Moments are shown as the log has them.
const WALL: Wall = Wall { start_ms: 0 };

/// Looks at the log of a broker that is not running; changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints every record, one line each, up to the first damage.
    ///
    /// A data directory is read shard by shard as the broker does at its start; a single segment
    /// file (wal-….seg) is read alone, whatever is whole in it. With `--salvage` records after
    /// damage are printed too.
    ///
    /// Exit status: 0 all was read, 65 data is damaged, 73 a broker uses the directory.
    Dump {
        /// Data directory, or a segment file.
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
        /// Only this shard.
        #[arg(long, value_name = "N")]
        shard: Option<u16>,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
        /// With the payloads of messages.
        #[arg(long)]
        payload: bool,
        /// Goes on behind damage.
        #[arg(long)]
        salvage: bool,
    },
    /// Reads all logs as a start of the broker would, and says for each shard what it found.
    ///
    /// Exit status: 0 whole, 65 acknowledged data is damaged, 73 a broker uses the directory.
    Verify {
        /// Data directory.
        #[arg(value_name = "DIR")]
        path: PathBuf,
    },
}

/// Runs `culex log`.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &args.command {
        Command::Dump { path, shard, json, payload, salvage } => {
            let mode = if *salvage { Mode::Salvage } else { Mode::Strict };
            let printer = Printer { out: &mut out, json: *json, payloads: *payload, faults: 0 };
            dump(path, *shard, mode, printer)
        }
        Command::Verify { path } => verify(path, &mut out),
    };
    match out.flush() {
        Ok(()) => done,
        Err(error) => done.and(Err(not_written(&error))),
    }
}

fn not_written(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(status::READER_GONE, "");
    }
    Failure::system("cannot write to stdout", error)
}

fn not_read(error: &DirectoryError) -> Failure {
    Failure::new(error.exit_status(), error.to_string())
}

fn dump(
    path: &std::path::Path,
    only: Option<u16>,
    mode: Mode,
    mut printer: Printer<'_>,
) -> Result<(), Failure> {
    let mut written = Ok(());
    if path.is_file() {
        let mut sink = |record: Record<'_>| printer.take(None, &record, &mut written);
        let shard = read_segment_file(path, &mut sink);
        shard.map_err(|error| not_read(&error))?;
        return printer.end(written, None);
    }
    let directory = Examination::begin(path).map_err(|error| not_read(&error))?;
    let mut damage = None;
    for shard in (0..directory.shards()).filter(|shard| only.is_none_or(|only| only == *shard)) {
        let mut sink = |record: Record<'_>| printer.take(Some(shard), &record, &mut written);
        // The other shards are printed too.
        match directory.read(shard, mode, &mut sink) {
            Ok(recovered) => damage = damage.or(skipped(shard, &recovered)),
            Err(error) => damage = damage.or(Some(not_read(&error))),
        }
    }
    if only.is_some_and(|only| only >= directory.shards()) {
        return Err(Failure::usage(format!("there are {} shards", directory.shards())));
    }
    printer.end(written, damage)
}

/// What salvaging left out.
fn skipped(shard: u16, recovered: &Recovered) -> Option<Failure> {
    let first = recovered.losses.first()?;
    let count = recovered.loss_count;
    let text = format!("shard {shard}: {count} gaps, the first from LSN {}", first.first_lsn.0);
    Some(Failure::new(status::DATA, text))
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    json: bool,
    payloads: bool,
    /// Records that the log has whole and nobody understands.
    faults: usize,
}

impl Printer<'_> {
    fn take(&mut self, shard: Option<u16>, record: &Record<'_>, written: &mut io::Result<()>) {
        if written.is_ok() {
            *written = self.print(shard, record);
        }
    }

    fn print(&mut self, shard: Option<u16>, record: &Record<'_>) -> io::Result<()> {
        let mut unknown = Fields::default();
        unknown.put("kind", u16::from(record.kind));
        let (name, fields) = match decode(record.kind, record.body, WALL) {
            Ok(Some(decoded)) => describe(&decoded, WALL, self.payloads),
            Ok(None) => ("unknown", unknown),
            Err(fault) => {
                self.faults += 1;
                unknown.put("fault", &*fault.to_string());
                ("unreadable", unknown)
            }
        };
        let mut line = Fields::default();
        if let Some(shard) = shard {
            line.put("shard", shard);
        }
        line.put("lsn", record.lsn.0);
        if self.json {
            line.put("bytes", record.body.len());
            line.put("record", name);
            line.extend(fields);
            serde_json::to_writer(&mut *self.out, &line)?;
            return self.out.write_all(b"\n");
        }
        writeln!(self.out, "{line} {name} {fields}")
    }

    fn end(self, written: io::Result<()>, damage: Option<Failure>) -> Result<(), Failure> {
        written.map_err(|error| not_written(&error))?;
        if let Some(damage) = damage {
            return Err(damage);
        }
        match self.faults {
            0 => Ok(()),
            faults => {
                let text = format!("{faults} records cannot be read by this version");
                Err(Failure::new(status::DATA, text))
            }
        }
    }
}

fn verify(path: &std::path::Path, out: &mut dyn Write) -> Result<(), Failure> {
    let directory = Examination::begin(path).map_err(|error| not_read(&error))?;
    let mut damaged = 0;
    for shard in 0..directory.shards() {
        let verdict = match check(&directory, shard) {
            Ok(text) => text,
            Err(text) => {
                damaged += 1;
                format!("damaged: {text}")
            }
        };
        writeln!(out, "shard {shard}: {verdict}").map_err(|error| not_written(&error))?;
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::new(
            status::DATA,
            format!("{damaged} of {} shards are damaged", directory.shards()),
        )),
    }
}

/// Reads one shard as a start does.
fn check(directory: &Examination, shard: u16) -> Result<String, String> {
    let mut image = Image::default();
    let mut fault = None;
    let (mut records, mut first_lsn, mut last_lsn) = (0_u64, 0, 0);
    let recovered = directory.read(shard, Mode::Strict, &mut |record| {
        let lsn = record.lsn.0;
        match decode(record.kind, record.body, WALL) {
            Ok(Some(decoded)) => image.apply(Place { lsn, offset: 0, bytes: 0 }, decoded),
            Ok(None) => {}
            Err(found) => {
                fault.get_or_insert_with(|| format!("LSN {lsn}: {found}"));
            }
        }
        records += 1;
        first_lsn = if records == 1 { lsn } else { first_lsn };
        last_lsn = lsn;
    });
    let recovered = recovered.map_err(|error| error.to_string())?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let counts = image.finish();
    if counts.headless > 0 || counts.replaced > 0 {
        let Counts { headless, replaced, .. } = counts;
        return Err(format!("{headless} sessions without a beginning, {replaced} there twice"));
    }
    let segments = directory.segments(shard).map_err(|error| error.to_string())?;
    let range = if records == 0 { String::new() } else { format!(" ({first_lsn} to {last_lsn})") };
    let Counts { sessions, waiting, retained, .. } = counts;
    let torn = match recovered.verdict {
        Verdict::TornTail { discarded_bytes } => {
            format!(", {discarded_bytes} bytes at the end were never acknowledged")
        }
        Verdict::Clean | Verdict::Corrupt(_) => String::new(),
    };
    let foreign = match recovered.foreign.len() {
        0 => String::new(),
        count => format!(", {count} segments of another log"),
    };
    Ok(format!(
        "clean, {segments} segments, {records} records{range}, {sessions} sessions, {waiting} \
         messages waiting, {retained} retained{torn}{foreign}"
    ))
}

#[cfg(test)]
mod tests;
