//! Whole READs and WRITEs: from a socket through the core to a file in the page cache, and back.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use disk_image::{OpenOptions, RawImage};
use scsi::Device;
use target_core::{
    AuthPolicy, IscsiName, LogicalUnit, NoEvents, Node, NodeConfig, NodeState, TargetConfig,
    UnitConfig,
};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::initiator::{Direction, Initiator};

const TARGET: &str = "iqn.2026-01.invalid.icounts:disk";
const SIZE: u64 = 16 << 20;
const BLOCK: usize = 512;

/// So many READ(16)s of `length` bytes each, one behind the other.
pub(crate) fn reads(times: usize, length: usize, digests: bool) -> Result<Duration> {
    run(Direction::Read, times, length, digests)
}

/// So many WRITE(16)s of `length` bytes each, one behind the other.
pub(crate) fn writes(times: usize, length: usize, digests: bool) -> Result<Duration> {
    run(Direction::Write, times, length, digests)
}

fn run(direction: Direction, times: usize, length: usize, digests: bool) -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("disk.raw");
    let image = File::create_new(&path)?;
    // Written, not only extended: reads find pages in the cache.
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0x5a), SIZE), &mut &image)?;
    drop(image);

    let image = RawImage::open(path, OpenOptions::default())?;
    let device = Device::new("0123456789ABCDEF", *b"\x60icounts--device", 512, SIZE / 512);
    let unit = LogicalUnit::new(UnitConfig::new("disk", device, Ok(Arc::new(image))));
    let node = Node::new(NodeConfig::default(), Arc::new(NoEvents));
    node.add_target(TargetConfig {
        name: IscsiName::new(TARGET).map_err(|error| anyhow!("{error}"))?,
        alias: String::new(),
        auth: AuthPolicy::None,
        access: None,
        portal_groups: None,
    })?;
    node.add_unit(TARGET, 0, unit)?;
    // Two: a thread that writes must not be the last one.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(target_core::serve(node.clone(), 1, listener));
    node.set_state(NodeState::Serving);

    let places = usize::try_from(SIZE)? / length;
    let operation = match direction {
        Direction::Read => 0x88,
        Direction::Write => 0x8a,
    };
    let cdb = |number: usize| sixteen(operation, number % places, length / BLOCK);
    let mut initiator = Initiator::log_in(address, TARGET, digests).context("login")?;
    let start = Instant::now();
    initiator.run(direction, times, length, cdb)?;
    let took = start.elapsed();
    runtime.shutdown_background();
    Ok(took)
}

/// READ(16) or WRITE(16) of the `place`th piece of so many blocks.
const fn sixteen(operation: u8, place: usize, blocks: usize) -> [u8; 16] {
    let lba = place as u128 * blocks as u128;
    ((operation as u128) << 120 | lba << 48 | (blocks as u128) << 16).to_be_bytes()
}
