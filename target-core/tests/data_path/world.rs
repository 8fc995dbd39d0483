//! A node that serves, and what the outside hears of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use disk_image::{FaultImage, Image, MemImage};
use scsi::Device;
use target_core::{
    AuthPolicy, Events, Fault, IscsiName, LogicalUnit, Node, NodeConfig, NodeState, SessionEnd,
    SessionSummary, TargetConfig, UnitConfig,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::initiator::{Data, Initiator};
use crate::wire::{Login, PATIENCE, Refusal};

pub const BLOCK: usize = 512;
pub const TARGET: &str = "iqn.2026-01.org.example:disks";
pub const OTHER_TARGET: &str = "iqn.2026-01.org.example:others";

/// A node, its runtime and a portal.
pub struct World {
    runtime: Option<Runtime>,
    pub node: Arc<Node>,
    pub events: Arc<Recorder>,
    pub address: SocketAddr,
    next_isid: AtomicU32,
}

impl World {
    /// Serves [`TARGET`] without units.
    pub fn new() -> Self {
        let logout_time = Duration::from_millis(200);
        Self::with(NodeConfig { logout_time, ..NodeConfig::default() })
    }

    pub fn with(config: NodeConfig) -> Self {
        Self::prepared(config, |_| true).unwrap()
    }

    /// With connections of this congestion control; none where the system does not have it.
    pub fn with_congestion(config: NodeConfig, name: &str) -> Option<Self> {
        let set = |it: &TcpListener| rustix::net::sockopt::set_tcp_congestion(it, name).is_ok();
        Self::prepared(config, set)
    }

    fn prepared(config: NodeConfig, prepare: impl FnOnce(&TcpListener) -> bool) -> Option<Self> {
        // More threads than cores: some tests hold one of them in a write.
        let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
        let events = Arc::new(Recorder::default());
        let node = Node::new(config, events.clone());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        if !prepare(&listener) {
            return None;
        }
        let address = listener.local_addr().unwrap();
        runtime.spawn(target_core::serve(node.clone(), 1, listener));
        let next_isid = AtomicU32::new(1);
        let world = Self { runtime: Some(runtime), node, events, address, next_isid };
        world.target(TARGET, AuthPolicy::None);
        world.node.set_state(NodeState::Serving);
        Some(world)
    }

    /// With a unit of 8 MiB in memory as LUN 0; its image.
    pub fn with_memory() -> (Self, Arc<FaultImage>) {
        let world = Self::new();
        let image = memory(8 << 20);
        world.unit(0, image.clone());
        (world, image)
    }

    pub fn target(&self, name: &str, auth: AuthPolicy) {
        let (name, alias) = (IscsiName::new(name).unwrap(), "alias".to_owned());
        self.node
            .add_target(TargetConfig { name, alias, auth, access: None, portal_groups: None })
            .unwrap();
    }

    /// Makes an image a LUN of [`TARGET`].
    pub fn unit(&self, lun: u16, image: Arc<dyn Image>) -> Arc<LogicalUnit> {
        let unit = unit(&format!("disk{lun}"), image);
        self.node.add_unit(TARGET, lun, unit.clone()).unwrap();
        unit
    }

    /// A login with large segments, under a name of its own.
    pub fn login(&self) -> Login {
        let number = self.next_isid.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] = number.to_be_bytes();
        Login {
            initiator: "iqn.2026-01.org.example:host".to_owned(),
            target: Some(TARGET.to_owned()),
            isid: [0x40, 0, 1, a, b, c],
            tsih: 0,
            cid: 1,
            keys: keys(&[
                ("InitialR2T", "No"),
                ("MaxRecvDataSegmentLength", "262144"),
                ("MaxBurstLength", "1048576"),
                ("FirstBurstLength", "262144"),
            ]),
        }
    }

    pub fn log_in(&self, login: &Login) -> Initiator {
        Initiator::log_in(self.address, login).unwrap()
    }

    /// Logs in and hears of POWER ON of the given LUNs.
    pub fn initiator(&self, luns: &[u16]) -> Initiator {
        let mut initiator = self.log_in(&self.login());
        for lun in luns {
            initiator.execute(*lun, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        }
        initiator
    }

    pub fn refusal(&self, login: &Login) -> Refusal {
        Initiator::log_in(self.address, login).expect_err("the login was not refused")
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(future)
    }

    /// Waits for a task of the node.
    pub fn wait<T>(&self, task: JoinHandle<T>) -> T {
        self.block_on(task).unwrap()
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let future = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.as_ref().unwrap().block_on(future).expect("it does not end")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A gate that a failed test left closed must not hold the others up.
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// A unit of its own.
pub fn unit(name: &str, image: Arc<dyn Image>) -> Arc<LogicalUnit> {
    let blocks = image.size_bytes() / BLOCK as u64;
    let device = Device::new(name, *b"\x60\0\0\x01data-path-ts", BLOCK as u32, blocks);
    LogicalUnit::new(UnitConfig::new(name, device, Ok(image)))
}

/// Zeroes in memory, to which faults can be added.
pub fn memory(size: u64) -> Arc<FaultImage> {
    Arc::new(FaultImage::new(Arc::new(MemImage::new(size).unwrap())))
}

pub fn keys(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

pub const TEST_UNIT_READY: [u8; 6] = [0; 6];
pub const SYNCHRONIZE_CACHE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn ten(operation: u8, flags: u8, lba: u32, blocks: usize) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    let [e, f] = u16::try_from(blocks).unwrap().to_be_bytes();
    [operation, flags, a, b, c, d, 0, e, f, 0]
}

pub fn read(lba: u32, blocks: usize) -> [u8; 10] {
    ten(0x28, 0, lba, blocks)
}

pub fn write(lba: u32, blocks: usize) -> [u8; 10] {
    ten(0x2a, 0, lba, blocks)
}

/// FUA: such a write is handed off as soon as all of its data has come.
pub fn durable_write(lba: u32, blocks: usize) -> [u8; 10] {
    ten(0x2a, 8, lba, blocks)
}

/// Random numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// What was heard.
#[derive(Debug, Clone)]
pub enum Heard {
    Up(SessionSummary),
    Down(SessionSummary, SessionEnd),
    Fault(Fault),
}

/// Remembers everything it hears.
#[derive(Debug, Default)]
pub struct Recorder {
    heard: Mutex<Vec<Heard>>,
    changed: Condvar,
}

impl Recorder {
    /// Waits until something was heard of which `pick` makes something.
    pub fn wait<T>(&self, pick: impl Fn(&Heard) -> Option<T>) -> T {
        let heard = self.heard.lock().unwrap();
        let missing = |heard: &mut Vec<Heard>| !heard.iter().any(|it| pick(it).is_some());
        let (heard, _) = self.changed.wait_timeout_while(heard, PATIENCE, missing).unwrap();
        let found = heard.iter().find_map(&pick);
        found.unwrap_or_else(|| panic!("never heard of it, only of {heard:?}"))
    }

    /// Waits for the end of a session.
    pub fn wait_for_end(&self, tsih: u16) -> SessionEnd {
        self.wait(|heard| match heard {
            Heard::Down(summary, end) if summary.tsih == tsih => Some(*end),
            _ => None,
        })
    }

    /// Whether a session has ended.
    pub fn ended(&self, tsih: u16) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.iter().any(|it| matches!(it, Heard::Down(summary, _) if summary.tsih == tsih))
    }

    pub fn wait_for_fault(&self) -> Fault {
        self.wait(|heard| match heard {
            Heard::Fault(fault) => Some(fault.clone()),
            _ => None,
        })
    }

    pub fn faults(&self) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|heard| matches!(heard, Heard::Fault(_))).count()
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
        self.changed.notify_all();
    }
}

impl Events for Recorder {
    fn session_up(&self, session: &SessionSummary) {
        self.hear(Heard::Up(session.clone()));
    }

    fn session_down(&self, session: &SessionSummary, end: SessionEnd) {
        self.hear(Heard::Down(session.clone(), end));
    }

    fn fault(&self, fault: Fault) {
        self.hear(Heard::Fault(fault));
    }
}

/// Asks until the answer is as it should be; the target decides how fast.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came to be");
        std::thread::sleep(Duration::from_millis(1));
    }
}
