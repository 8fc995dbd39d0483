//! An iSCSI load generator: judges a target from outside, sharing none of its code.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod engine;
mod histogram;
mod link;
mod login;
mod options;
mod pattern;
mod pdu;
mod report;
mod session;

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::engine::{Engine, Job, phase};
use crate::histogram::Histogram;
use crate::options::{Access, Options};
use crate::report::{Cpu, Cycles, Report};
use crate::session::{Capacity, Session};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("loadgen: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.cycles {
        return cycles(options);
    }
    let mut sessions = open(options)?;
    let capacity = sessions.first_mut().context("no session")?.capacity()?;
    if options.report_luns {
        println!("{}", sessions.first_mut().context("no session")?.report_luns()?);
        return sessions.into_iter().try_for_each(Session::logout);
    }
    if options.fill {
        let filling = start(options, capacity, sessions, Kind::Fill)?;
        sessions = filling.finish()?.0;
    }
    if options.hold {
        let once = Kind::Reads(u64::from(options.depth));
        return hold(start(options, capacity, sessions, once)?.finish()?.0);
    }
    if options.seconds > 0.0 {
        let load = start(options, capacity, sessions, Kind::Load)?;
        load.wait(options.warm_up)?;
        let (before, begin) = (Cpu::now(options.server_pid)?, Instant::now());
        load.control.store(phase::MEASURE, Ordering::Relaxed);
        load.wait(options.seconds)?;
        load.control.store(phase::STOP, Ordering::Relaxed);
        let (elapsed, after) = (begin.elapsed(), Cpu::now(options.server_pid)?);
        let latencies;
        (sessions, latencies) = load.finish()?;
        let report = Report::new(options, &latencies, elapsed, before, after);
        if options.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!("{}", report.text());
        }
        if latencies.total() == 0 {
            bail!("nothing was completed in {:.1} s", options.seconds);
        }
    }
    sessions.into_iter().try_for_each(Session::logout)
}

/// Logs in and out, one session at a time.
fn cycles(options: &Options) -> Result<()> {
    let (before, begin) = (Cpu::now(options.server_pid)?, Instant::now());
    let mut count = 0_u32;
    while begin.elapsed().as_secs_f64() < options.seconds {
        let [_, _, high, low] = count.to_be_bytes();
        Session::open(options, [0x80, 0, 0, 0, high, low])?.logout()?;
        count += 1;
    }
    let (elapsed, after) = (begin.elapsed(), Cpu::now(options.server_pid)?);
    let cycles = Cycles::new(count, elapsed, before, after);
    println!("{}", serde_json::to_string(&cycles)?);
    Ok(())
}

/// All sessions, each with an ISID of its own, ready for commands.
fn open(options: &Options) -> Result<Vec<Session>> {
    // A random-format ISID; time and process keep two generators from ending each other's sessions.
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    let [_, a, b, c] = (nanos ^ std::process::id().rotate_left(12)).to_be_bytes();
    let mut sessions = Vec::new();
    for number in 0..options.connections {
        let [high, low] = u16::try_from(number)?.to_be_bytes();
        let mut session = Session::open(options, [0x80, a, b, c, high, low])
            .with_context(|| format!("session {number}"))?;
        session.become_ready()?;
        sessions.push(session);
    }
    Ok(sessions)
}

/// What the connections are started for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Write everything once.
    Fill,
    /// The load, until stopped.
    Load,
    /// So many reads per connection.
    Reads(u64),
}

/// Running connections.
struct Running {
    control: Arc<AtomicU8>,
    results: Receiver<Result<(usize, Session, Histogram)>>,
    count: usize,
}

/// One thread per session.
fn start(
    options: &Options,
    capacity: Capacity,
    sessions: Vec<Session>,
    kind: Kind,
) -> Result<Running> {
    let block = capacity.block;
    if options.block == 0 || !options.block.is_multiple_of(block) {
        bail!("--block must be a multiple of the disk's {block} bytes");
    }
    let size = capacity.blocks * u64::from(block);
    let places = options.span.unwrap_or(size).min(size) / u64::from(options.block);
    let count = sessions.len();
    let share = places / count as u64;
    if share == 0 {
        bail!("the disk of {size} bytes is too small for this");
    }
    if options.cdb < 16 && capacity.blocks > u64::from(u32::MAX) {
        bail!("the disk is too large for 10-byte commands");
    }
    let access = match kind {
        Kind::Fill => Access::Write,
        Kind::Reads(_) => Access::Randread,
        Kind::Load => options.rw,
    };
    let control = Arc::new(AtomicU8::new(phase::WARM_UP));
    let (sender, results) = channel();
    for (number, mut session) in sessions.into_iter().enumerate() {
        let number64 = number as u64;
        // Sequential connections share the disk out, the last takes the rest; random ones all
        // go everywhere.
        let (first, count) = match (access.random(), number + 1 == count) {
            (true, _) => (0, places),
            (false, false) => (number64 * share, share),
            (false, true) => (number64 * share, places - number64 * share),
        };
        let limit = match kind {
            Kind::Fill => Some(count),
            Kind::Load => None,
            Kind::Reads(n) => Some(n),
        };
        let job = Job {
            reads: access.reads(options.read_percent),
            random: access.random(),
            size: options.block,
            block,
            depth: options.depth,
            short_cdb: options.cdb < 16,
            marks: options.verify || matches!(kind, Kind::Fill),
            first,
            count,
            limit,
            seed: number64 + 1,
        };
        let (sender, control) = (sender.clone(), Arc::clone(&control));
        thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let done = Engine::new(&mut session, job).and_then(|engine| engine.run(&control));
            let done = done.with_context(|| format!("connection {number}"));
            // The main thread may have gone already, over another connection's error.
            let _ = sender.send(done.map(|histogram| (number, session, histogram)));
        })?;
    }
    Ok(Running { control, results, count })
}

impl Running {
    /// Lets the load run; a connection that ends meanwhile has failed.
    fn wait(&self, seconds: f64) -> Result<()> {
        match self.results.recv_timeout(Duration::try_from_secs_f64(seconds)?) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Err(e)) => Err(e),
            Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => bail!("a connection ended early"),
        }
    }

    /// Waits for all connections; their sessions in the old order, and all they measured.
    fn finish(self) -> Result<(Vec<Session>, Histogram)> {
        let mut all = Histogram::new();
        let mut sessions = Vec::new();
        for _ in 0..self.count {
            let (number, session, histogram) =
                self.results.recv().context("a connection's thread ended early")??;
            all.merge(&histogram);
            sessions.push((number, session));
        }
        sessions.sort_by_key(|(number, _)| *number);
        Ok((sessions.into_iter().map(|(_, session)| session).collect(), all))
    }
}

/// Keeps the sessions, answering pings, until standard input ends.
fn hold(sessions: Vec<Session>) -> Result<()> {
    let (sender, failed) = channel::<anyhow::Error>();
    for mut session in sessions {
        let sender = sender.clone();
        thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            if let Err(e) = session.idle() {
                let _ = sender.send(e);
            }
        })?;
    }
    println!("ready");
    let (closed, input) = channel();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    loop {
        if input.recv_timeout(Duration::from_millis(100)).is_ok() {
            return Ok(());
        }
        if let Ok(e) = failed.try_recv() {
            return Err(e);
        }
    }
}
