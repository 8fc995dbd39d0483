//! The daemon as a child process that never outlives its test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, Run, lunctl};

/// A directory where a daemon may be started again and again.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn disks(&self) -> PathBuf {
        self.data().join("disks")
    }

    /// Writes a file into the place.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `lund serve` with nothing else said.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lund"));
        command.arg("serve").current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("LUND_LOG").env_remove("LUND_CRASH_AT");
        command
    }

    /// `lund serve` on free ports, with the data in the place. Without a configuration of the test's
    /// own it does not say that the default pool is nearly full, as it may be on this machine.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.bare();
        command.args(["--iscsi-listen", "127.0.0.1:0", "--mgmt-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(self.data()).args(arguments);
        if arguments.iter().all(|argument| argument.as_ref() != "--config") {
            command.arg("--config").arg(self.write("quiet.toml", "[disks]\nthresholds = []\n"));
        }
        command
    }

    /// The same, with a configuration file.
    pub(crate) fn configured(&self, config: &Path) -> Command {
        self.command(&[OsStr::new("--config"), config.as_os_str()])
    }

    /// Starts it; it serves when this returns.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        Daemon::spawn(&mut self.command(arguments), self)
    }

    /// Starts it with a demo disk of 64 MiB.
    pub(crate) fn start_demo(&self) -> Daemon {
        let mut daemon = self.start(&["--demo", "--demo-size", "64MiB"]);
        daemon.read_lines(8);
        daemon
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    process: Child,
    output: Receiver<String>,
    log: PathBuf,
    /// What it has printed so far.
    pub(crate) lines: Vec<String>,
    pub(crate) portal: SocketAddr,
    pub(crate) management: SocketAddr,
}

impl Daemon {
    pub(crate) fn spawn(command: &mut Command, place: &Place) -> Self {
        let log = place.path().join("stderr");
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon =
            Self { process, output, log, lines: Vec::new(), portal: nowhere, management: nowhere };
        while daemon.management == nowhere {
            daemon.read_lines(1);
            let line = daemon.lines.last().unwrap();
            if line.starts_with("https://") {
                continue;
            }
            if let Some(rest) = line.strip_prefix("http://") {
                daemon.management = rest.strip_suffix("/cimom").unwrap().parse().unwrap();
            } else if daemon.portal == nowhere {
                daemon.portal = line.strip_prefix("iscsi://").unwrap().parse().unwrap();
            }
        }
        daemon
    }

    /// Reads so many more lines of its standard output.
    pub(crate) fn read_lines(&mut self, count: usize) {
        for _ in 0..count {
            match self.output.recv_timeout(PATIENCE) {
                Ok(line) => self.lines.push(line),
                Err(error) => panic!("no line on standard output: {error}"),
            }
        }
    }

    /// Everything it will ever print; after its end.
    pub(crate) fn read_to_end(&mut self) {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(error) => panic!("standard output stays open: {error}"),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn server(&self) -> String {
        format!("http://{}", self.management)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn lunctl(&self, arguments: &[&str]) -> Run {
        lunctl(&self.server(), arguments)
    }

    /// `--json`, parsed; it must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.lunctl(&[arguments, &["--json"]].concat()).json()
    }

    /// Creates a target with a disk as one of its LUNs; the target's whole name.
    pub(crate) fn expose(&self, target: &str, disk: &str, lun: u16) -> String {
        self.lunctl(&["target", "create", target]).ok();
        let lun = lun.to_string();
        let mapping = self.json(&["target", "map", target, disk, "--lun", &lun]);
        mapping["target"].as_str().unwrap().to_owned()
    }

    /// Where a disk's file is.
    pub(crate) fn file_of(&self, disk: &str) -> PathBuf {
        let disks = self.json(&["disk", "list"]);
        let found = disks.as_array().unwrap().iter().find(|it| it["name"] == disk).unwrap();
        found["path"].as_str().unwrap().into()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait(&mut self.process)
    }

    /// SIGTERM; it must end with status 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "after SIGTERM: {status}\n{}", self.log());
    }

    /// SIGKILL, as a crash would have it.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            eprintln!("--- the daemon's log ---\n{}", &log[start..]);
        }
    }
}

fn wait(process: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = process.kill();
            let _ = process.wait();
            panic!("a process did not end within {PATIENCE:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Runs a daemon that is expected to end by itself: its exit status and standard error.
pub(crate) fn exit_of(command: &mut Command) -> (i32, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    wait(&mut process);
    let Output { status, stdout, stderr } = process.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "", "nothing is promised before it serves");
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// An address that nobody listens on, as far as one can know.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
