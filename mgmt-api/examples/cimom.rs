//! CIM-XML alone: `cimom DIRECTORY` serves the data directory on a free loopback port and prints
//! the address.

use std::sync::Arc;

use job_engine::{Engine, EngineConfig};
use mgmt_api::cim::{Cimom, router};

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the address is what the caller waits for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: cimom DIRECTORY")?;
    let config = EngineConfig::new(directory);
    let system_name = config.system_name.clone();
    let engine = tokio::task::spawn_blocking(|| Engine::open(config)).await??;
    let cimom = Arc::new(Cimom::new(engine.clone(), system_name)?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/cimom", listener.local_addr()?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stopped = async move {
        terminate.recv().await;
    };
    axum::serve(listener, router(cimom)).with_graceful_shutdown(stopped).await?;
    tokio::task::spawn_blocking(move || engine.shutdown()).await?;
    Ok(())
}
