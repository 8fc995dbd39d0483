//! The configuration: embedded defaults, under a TOML file, under the command line.

mod alua;
mod chap;
mod data_path;
mod isns;
mod management;
mod memory;
mod pool;
mod portal_group;
mod redirect;
mod scsi;
mod show;
mod telemetry;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::scsi::AccessMethods;
use anyhow::Context as _;
use job_engine::{PoolLimits, PoolSettings};
use serde::Deserialize;
use target_core::ZeroCopyReads;
use toml::Spanned;

pub(crate) use self::chap::{Access, SECRET_LENGTHS};
pub(crate) use self::isns::Isns;
pub(crate) use self::management::{Management, TlsConfig};
pub(crate) use self::portal_group::PortalGroup;
pub(crate) use self::redirect::Redirects;
pub(crate) use self::scsi::Scsi;
pub(crate) use self::telemetry::Telemetry;
use crate::args::{LogFormat, Serve};

const DEFAULT_DATA_DIR: &str = "./lund-data";
const ISCSI_PORT: u16 = 3260;

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) disks_dir: PathBuf,
    /// What the space of the default pool may be used for.
    pub(crate) default_limits: PoolLimits,
    /// The other pools.
    pub(crate) pools: Vec<PoolSettings>,
    /// In the order of their tags.
    pub(crate) portal_groups: Vec<PortalGroup>,
    pub(crate) access_methods: AccessMethods,
    pub(crate) scsi: Scsi,
    pub(crate) management: Management,
    /// Bytes of images that may be pinned in memory.
    pub(crate) pinned: u64,
    pub(crate) max_logins: usize,
    /// Bytes.
    pub(crate) max_backlog: usize,
    /// The priority of the threads that serve initiators.
    pub(crate) nice: i32,
    pub(crate) zero_copy_reads: ZeroCopyReads,
    pub(crate) max_sessions: usize,
    pub(crate) max_sessions_per_target: usize,
    pub(crate) max_sessions_per_initiator: usize,
    pub(crate) max_tasks: u32,
    /// For logouts, before the daemon ends sessions.
    pub(crate) logout_time: Duration,
    /// For commands that a device holds on to, before who waits for their end is refused.
    pub(crate) abort_time: Duration,
    /// Zero: nothing is slow.
    pub(crate) slow_command: Duration,
    pub(crate) access: Access,
    pub(crate) redirects: Redirects,
    pub(crate) isns: Option<Isns>,
    pub(crate) max_running_jobs: usize,
    pub(crate) max_running_jobs_per_pool: usize,
    /// Bytes a second.
    pub(crate) job_bandwidth: Option<u64>,
    pub(crate) job_back_off: bool,
    pub(crate) job_least_bandwidth: Option<u64>,
    pub(crate) max_unfinished_jobs: usize,
    pub(crate) max_ended_jobs: usize,
    /// Absolute, without links.
    pub(crate) allowed_directories: Vec<PathBuf>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    /// None: no traces are sent.
    pub(crate) telemetry: Option<Telemetry>,
    /// Size of the demo disk, if there shall be one.
    pub(crate) demo: Option<u64>,
}

/// The file. Every key may be missing; a key that is not known is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    #[serde(default)]
    iscsi: Iscsi,
    #[serde(default)]
    scsi: scsi::Table,
    isns: Option<isns::Table>,
    #[serde(default)]
    management: management::Table,
    #[serde(default)]
    memory: memory::Table,
    #[serde(default)]
    disks: Disks,
    #[serde(default)]
    pools: Vec<pool::Table>,
    #[serde(default)]
    jobs: Jobs,
    #[serde(default)]
    log: Log,
    telemetry: Option<telemetry::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Iscsi {
    listen: Option<Spanned<Vec<SocketAddr>>>,
    max_logins: Option<Spanned<u32>>,
    max_backlog: Option<Spanned<String>>,
    zero_copy_reads: Option<Spanned<String>>,
    nice: Option<Spanned<i32>>,
    max_sessions: Option<Spanned<u32>>,
    max_sessions_per_target: Option<Spanned<u32>>,
    max_sessions_per_initiator: Option<Spanned<u32>>,
    max_commands: Option<Spanned<u32>>,
    logout_seconds: Option<Spanned<u32>>,
    abort_seconds: Option<Spanned<u32>>,
    slow_command_milliseconds: Option<Spanned<u32>>,
    chap: Option<Spanned<chap::Table>>,
    alua: Option<alua::Alua>,
    #[serde(default)]
    portal_groups: Vec<portal_group::Table>,
    #[serde(default)]
    redirects: Vec<redirect::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disks {
    directory: Option<PathBuf>,
    overcommit: Option<Spanned<pool::Overcommitted>>,
    reserve: Option<Spanned<String>>,
    thresholds: Option<Vec<Spanned<String>>>,
    hard_threshold: Option<Spanned<String>>,
    direct_io: Option<Spanned<bool>>,
    allowed_directories: Option<Spanned<Vec<PathBuf>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    max_running: Option<Spanned<u32>>,
    max_running_per_pool: Option<Spanned<u32>>,
    bandwidth: Option<Spanned<String>>,
    back_off: Option<bool>,
    least_bandwidth: Option<Spanned<String>>,
    max_unfinished: Option<Spanned<u32>>,
    max_ended: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    format: Option<LogFormat>,
    level: Option<Spanned<String>>,
}

/// A file's text, to find lines in.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    /// An error in the value of a key.
    fn error<T>(&self, key: &str, value: &Spanned<T>, reason: &str) -> anyhow::Error {
        let before = self.text.get(..value.span().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        anyhow::anyhow!("{}:{line}: `{key}` {reason}", self.path.display())
    }

    fn within(
        &self,
        key: &str,
        value: Option<&Spanned<u32>>,
        default: u32,
        (low, high): (u32, u32),
    ) -> anyhow::Result<u32> {
        let Some(value) = value else { return Ok(default) };
        let number = *value.get_ref();
        if (low..=high).contains(&number) {
            return Ok(number);
        }
        let reason = format!("is {number}; it must lie between {low} and {high}");
        Err(self.error(key, value, &reason))
    }
}

impl Config {
    /// Puts the three together.
    ///
    /// # Errors
    /// Names the file, line and key, or the option.
    pub(crate) fn load(serve: &Serve) -> anyhow::Result<Self> {
        let (path, text) = match &serve.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                (path.as_path(), text)
            }
            None => (Path::new(""), String::new()),
        };
        Self::merge(&Source { path, text: &text }, serve)
    }

    fn merge(source: &Source<'_>, serve: &Serve) -> anyhow::Result<Self> {
        let file: File = toml::from_str(source.text)
            .map_err(|error| anyhow::anyhow!("{}: {error}", source.path.display()))?;
        let data_dir = serve.data_dir.clone().or(file.data_dir);
        let data_dir = data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let access_methods = file.iscsi.alua.unwrap_or_default().methods();
        let portal_groups = portal_group::portal_groups(
            source,
            access_methods,
            file.iscsi.listen.as_ref(),
            &file.iscsi.portal_groups,
            &serve.iscsi_listen,
        )?;
        let (max_sessions, per_target, per_initiator) = session_limits(source, &file.iscsi)?;
        let max_logins =
            source.within("iscsi.max_logins", file.iscsi.max_logins.as_ref(), 1024, (1, 60_000))?;
        let max_tasks = source.within(
            "iscsi.max_commands",
            file.iscsi.max_commands.as_ref(),
            128,
            (1, 2048),
        )?;
        let (logout_time, abort_time, slow_command) = times(source, &file.iscsi)?;
        let (running, per_pool) = job_limits(source, &file.jobs)?;
        let (unfinished, ended) = kept_jobs(source, &file.jobs)?;
        let management = management::management(source, serve, &file.management, &data_dir)?;
        let disks_dir = file.disks.directory.unwrap_or_else(|| data_dir.join("disks"));
        let space = pool::Space {
            table: "disks",
            overcommit: file.disks.overcommit.as_ref(),
            reserve: file.disks.reserve.as_ref(),
            thresholds: file.disks.thresholds.as_deref(),
            hard_threshold: file.disks.hard_threshold.as_ref(),
            direct_io: file.disks.direct_io.as_ref(),
            directory: &disks_dir,
        };
        let default_limits = space.limits(source)?;
        Ok(Self {
            pools: pool::pools(source, &file.pools, &disks_dir)?,
            disks_dir,
            default_limits,
            data_dir,
            portal_groups,
            access_methods,
            scsi: scsi::scsi(source, &file.scsi)?,
            management,
            pinned: memory::pinned(source, &file.memory)?,
            max_logins: usize::try_from(max_logins)?,
            max_backlog: data_path::max_backlog(source, file.iscsi.max_backlog.as_ref())?,
            nice: data_path::nice(source, file.iscsi.nice.as_ref())?,
            zero_copy_reads: data_path::zero_copy_reads(
                source,
                file.iscsi.zero_copy_reads.as_ref(),
            )?,
            max_sessions: usize::try_from(max_sessions)?,
            max_sessions_per_target: usize::try_from(per_target)?,
            max_sessions_per_initiator: usize::try_from(per_initiator)?,
            max_tasks,
            logout_time,
            abort_time,
            slow_command,
            access: chap::access(source, file.iscsi.chap.as_ref())?,
            isns: isns::isns(source, file.isns.as_ref())?,
            redirects: redirect::redirects(source, &file.iscsi.redirects)?,
            max_running_jobs: usize::try_from(running)?,
            max_running_jobs_per_pool: usize::try_from(per_pool)?,
            job_bandwidth: bandwidth(source, "jobs.bandwidth", file.jobs.bandwidth.as_ref())?,
            job_back_off: file.jobs.back_off.unwrap_or(true),
            job_least_bandwidth: least_bandwidth(source, file.jobs.least_bandwidth.as_ref())?,
            max_unfinished_jobs: usize::try_from(unfinished)?,
            max_ended_jobs: usize::try_from(ended)?,
            allowed_directories: allowed(source, file.disks.allowed_directories.as_ref())?,
            log_format: serve.log_format.or(file.log.format).unwrap_or_default(),
            log_level: log_level(source, serve, file.log.level)?,
            telemetry: telemetry::telemetry(source, file.telemetry.as_ref())?,
            demo: serve.demo.then(|| serve.demo_size.unwrap_or(1 << 30)),
        })
    }
}

/// For logouts, for commands that a device holds on to, and of a command that is slow.
fn times(source: &Source<'_>, iscsi: &Iscsi) -> anyhow::Result<(Duration, Duration, Duration)> {
    let logout_seconds =
        source.within("iscsi.logout_seconds", iscsi.logout_seconds.as_ref(), 3, (0, 60))?;
    // Less than a login may take.
    let abort_seconds =
        source.within("iscsi.abort_seconds", iscsi.abort_seconds.as_ref(), 10, (1, 14))?;
    let slow_milliseconds = source.within(
        "iscsi.slow_command_milliseconds",
        iscsi.slow_command_milliseconds.as_ref(),
        1000,
        (0, 600_000),
    )?;
    Ok((
        Duration::from_secs(logout_seconds.into()),
        Duration::from_secs(abort_seconds.into()),
        Duration::from_millis(slow_milliseconds.into()),
    ))
}

/// Sessions of the node, of one target and of one initiator.
fn session_limits(source: &Source<'_>, iscsi: &Iscsi) -> anyhow::Result<(u32, u32, u32)> {
    let bounds = (1, 60_000);
    let max_sessions =
        source.within("iscsi.max_sessions", iscsi.max_sessions.as_ref(), 4096, bounds)?;
    let per_target = source.within(
        "iscsi.max_sessions_per_target",
        iscsi.max_sessions_per_target.as_ref(),
        max_sessions,
        bounds,
    )?;
    let per_initiator = source.within(
        "iscsi.max_sessions_per_initiator",
        iscsi.max_sessions_per_initiator.as_ref(),
        max_sessions,
        bounds,
    )?;
    Ok((max_sessions, per_target, per_initiator))
}

/// Jobs that are kept: those that have not ended, and those that have.
fn kept_jobs(source: &Source<'_>, jobs: &Jobs) -> anyhow::Result<(u32, u32)> {
    let bounds = (1, 100_000);
    let unfinished =
        source.within("jobs.max_unfinished", jobs.max_unfinished.as_ref(), 1024, bounds)?;
    let ended = source.within("jobs.max_ended", jobs.max_ended.as_ref(), 10_000, bounds)?;
    Ok((unfinished, ended))
}

/// Jobs that run at the same time: of all, and of one pool.
fn job_limits(source: &Source<'_>, jobs: &Jobs) -> anyhow::Result<(u32, u32)> {
    let running = source.within("jobs.max_running", jobs.max_running.as_ref(), 4, (1, 64))?;
    let per_pool = source.within(
        "jobs.max_running_per_pool",
        jobs.max_running_per_pool.as_ref(),
        running,
        (1, 64),
    )?;
    Ok((running, per_pool))
}

fn log_level(
    source: &Source<'_>,
    serve: &Serve,
    given: Option<Spanned<String>>,
) -> anyhow::Result<String> {
    match (&serve.log_level, given) {
        (Some(level), _) => {
            check_level(level).with_context(|| format!("--log-level {level}"))?;
            Ok(level.clone())
        }
        (None, Some(level)) => {
            let reason = |error: anyhow::Error| {
                source.error("log.level", &level, &format!("is no filter: {error:#}"))
            };
            check_level(level.get_ref()).map_err(reason)?;
            Ok(level.into_inner())
        }
        (None, None) => Ok("info".to_owned()),
    }
}

/// Directories for import and export, as they are reached without links.
fn allowed(
    source: &Source<'_>,
    given: Option<&Spanned<Vec<PathBuf>>>,
) -> anyhow::Result<Vec<PathBuf>> {
    const KEY: &str = "disks.allowed_directories";
    let Some(given) = given else { return Ok(Vec::new()) };
    for path in given.get_ref() {
        let fail =
            |reason: String| source.error(KEY, given, &format!("has {}: {reason}", path.display()));
        let real = std::fs::canonicalize(path).map_err(|error| fail(error.to_string()))?;
        if real != *path {
            return Err(fail(format!("without links and relative parts it is {}", real.display())));
        }
        if !real.is_dir() {
            return Err(fail("it is no directory".to_owned()));
        }
    }
    Ok(given.get_ref().clone())
}

fn bandwidth(
    source: &Source<'_>,
    key: &str,
    given: Option<&Spanned<String>>,
) -> anyhow::Result<Option<u64>> {
    let Some(given) = given else { return Ok(None) };
    let rate = mgmt_api::size::parse(given.get_ref())
        .map_err(|error| source.error(key, given, &format!("is no size: {error}")))?;
    Ok(Some(rate))
}

/// 0: there is none.
fn least_bandwidth(
    source: &Source<'_>,
    given: Option<&Spanned<String>>,
) -> anyhow::Result<Option<u64>> {
    let rate = bandwidth(source, "jobs.least_bandwidth", given)?.unwrap_or(4 << 20);
    Ok((rate > 0).then_some(rate))
}

fn check_level(level: &str) -> anyhow::Result<()> {
    tracing_subscriber::EnvFilter::try_new(level)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    pub(super) fn load(text: &str, arguments: &[&str]) -> anyhow::Result<Config> {
        let all = ["lund", "serve"].iter().chain(arguments);
        let Command::Serve(serve) = Arguments::parse_from(all).command else { panic!("not serve") };
        Config::merge(&Source { path: Path::new("lund.toml"), text }, &serve)
    }

    pub(super) fn error(text: &str, arguments: &[&str]) -> String {
        format!("{:#}", load(text, arguments).unwrap_err())
    }

    #[test]
    fn nothing_needs_to_be_configured() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.data_dir, Path::new("./lund-data"));
        assert_eq!(config.disks_dir, Path::new("./lund-data/disks"));
        assert_eq!(config.portal_groups[0].listen, ["127.0.0.1:3260".parse().unwrap()]);
        assert_eq!(config.management.listen, "127.0.0.1:5988".parse().unwrap());
        assert_eq!(config.demo, None);
        assert_eq!(config.logout_time, Duration::from_secs(3));
        assert_eq!(config.abort_time, Duration::from_secs(10));
        assert_eq!(config.slow_command, Duration::from_secs(1));
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let text =
            "data_dir = '/a'\n[iscsi]\nlisten = ['[::1]:1', '127.0.0.1:2']\n[log]\nformat = 'json'";
        let config = load(text, &[]).unwrap();
        let portals = config.portal_groups[0].listen.len();
        assert_eq!((portals, config.log_format), (2, LogFormat::Json));
        let config = load(text, &["--data-dir", "/b", "--iscsi-listen", "127.0.0.1:0"]).unwrap();
        assert_eq!(config.disks_dir, Path::new("/b/disks"));
        assert_eq!(config.portal_groups[0].listen, ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(load("", &["--demo"]).unwrap().demo, Some(1 << 30));
        assert_eq!(load("", &["--demo", "--demo-size", "256MiB"]).unwrap().demo, Some(256 << 20));
    }

    #[test]
    fn sessions_of_one_are_bounded_as_all_are_if_nothing_else_is_said() {
        let text = "[iscsi]\nmax_sessions = 9\nmax_sessions_per_initiator = 2\nlogout_seconds = 0";
        let config = load(text, &[]).unwrap();
        assert_eq!((config.max_sessions_per_target, config.max_sessions_per_initiator), (9, 2));
        assert_eq!(config.logout_time, Duration::ZERO);
        for key in ["max_sessions_per_target", "max_sessions_per_initiator"] {
            let text = error(&format!("[iscsi]\n{key} = 0\n"), &[]);
            assert!(text.starts_with(&format!("lund.toml:2: `iscsi.{key}` is 0")), "{text}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_line() {
        let unknown = error("data_dir = '/a'\n[iscsi]\nlisen = []\n", &[]);
        assert!(unknown.contains("lisen") && unknown.contains("line 3"), "{unknown}");
        let value = error("[iscsi]\n\nmax_sessions = 0\n", &[]);
        assert!(value.starts_with("lund.toml:3: `iscsi.max_sessions` is 0"), "{value}");
        let address = error("[management]\nlisten = '0.0.0.0:5988'\n", &[]);
        assert!(address.starts_with("lund.toml:2: `management.listen`"), "{address}");
        let level = error("[log]\nlevel = 'a=b=c'\n", &[]);
        assert!(level.starts_with("lund.toml:2: `log.level`"), "{level}");
        let none = error("[iscsi]\nlisten = []\n", &[]);
        assert!(none.starts_with("lund.toml:2: `iscsi.listen`"), "{none}");
        let option = error("", &["--mgmt-listen", "0.0.0.0:1"]);
        assert!(option.contains("--mgmt-listen 0.0.0.0:1"), "{option}");
    }

    #[test]
    fn directories_for_import_and_export_are_real_ones() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let link = real.join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let text = |path: &Path| format!("[disks]\nallowed_directories = [{path:?}]");
        assert_eq!(
            load(&text(&real), &[]).unwrap().allowed_directories,
            std::slice::from_ref(&real)
        );
        for path in [link, real.join("gone"), PathBuf::from("relative")] {
            let error = error(&text(&path), &[]);
            assert!(error.starts_with("lund.toml:2: `disks.allowed_directories` has "), "{error}");
        }
    }
}
