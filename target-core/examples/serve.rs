//! Serves one image: `serve ADDR:PORT IQN FILE [BLOCK LENGTH]`. The data path and nothing else.
#![allow(clippy::print_stdout, reason = "it tells where it listens")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use disk_image::{Image as _, OpenOptions, RawImage};
use scsi::Device;
use target_core::{
    AuthPolicy, IscsiName, LogicalUnit, NoEvents, Node, NodeConfig, NodeState, TargetConfig,
    UnitConfig,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("serve ADDR:PORT IQN FILE [BLOCK LENGTH]");
    let (address, name, file) = (next()?, next()?, next()?);
    let block_length: u32 = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let image = Arc::new(RawImage::open(PathBuf::from(file), OpenOptions::default())?);
    let blocks = image.size_bytes() / u64::from(block_length);
    let device =
        Device::new("0123456789ABCDEF", *b"\x60\0\0\x01lund-serve!\0", block_length, blocks);
    let node = Node::new(NodeConfig::default(), Arc::new(NoEvents));
    let name = IscsiName::new(&name)?;
    let alias = String::new();
    node.add_target(TargetConfig {
        name: name.clone(),
        alias,
        auth: AuthPolicy::None,
        access: None,
        portal_groups: None,
    })?;
    let unit = UnitConfig::new("serve", device, Ok(image));
    node.add_unit(name.as_str(), 0, LogicalUnit::new(unit))?;
    node.set_state(NodeState::Serving);
    let listener = TcpListener::bind(address).await?;
    println!("iscsi://{}/{}/0", listener.local_addr()?, name.as_str());
    target_core::serve(node, 1, listener).await;
    Ok(())
}
