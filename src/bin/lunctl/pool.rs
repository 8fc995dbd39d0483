//! `lunctl pool`

use mgmt_api::api::{ChangePool, CreatePool, Pool};
use mgmt_api::size;
use serde_json::json;

use crate::args::{self, PoolSpace};
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};

pub(crate) fn run(client: &Client, output: Output, verb: args::Pool) -> Result<()> {
    match verb {
        args::Pool::List => {
            let pools: Vec<Pool> = client.get(&["pools"])?;
            output.value(&pools, || list(&pools));
        }
        args::Pool::Show { pool } => {
            let pool: Pool = client.get(&["pools", &pool])?;
            output.value(&pool, || list(std::slice::from_ref(&pool)));
        }
        args::Pool::Create { name, directory, space } => {
            let directory = directory.into_os_string().into_string().map_err(|path| {
                Failure::Usage(format!("{}: the path is no UTF-8", path.display()))
            })?;
            let ChangePool { overcommit, reserve, soft_thresholds, hard_threshold, direct_io } =
                limits(space);
            let request = CreatePool {
                name,
                directory,
                overcommit,
                reserve,
                soft_thresholds,
                hard_threshold,
                direct_io,
            };
            let pool: Pool = client.post(&["pools"], &request)?;
            output.value(&pool, || format!("pool {} created", pool.id));
        }
        args::Pool::Change { pool, space } => {
            let pool: Pool = client.patch(&["pools", &pool], &limits(space))?;
            output.value(&pool, || format!("pool {} changed", pool.id));
        }
        args::Pool::Delete { pool } => {
            let () = client.delete_of(&["pools", &pool], &[])?;
            let done = format!("pool {pool} is used no more; its directory stays");
            output.value(&json!({ "deleted": pool }), || done);
        }
    }
    Ok(())
}

fn limits(space: PoolSpace) -> ChangePool {
    let PoolSpace { overcommit, reserve, soft_threshold, hard_threshold, direct_io } = space;
    let soft_thresholds = match soft_threshold.as_slice() {
        [] => None,
        [none] if none == "none" => Some(Vec::new()),
        _ => Some(soft_threshold),
    };
    ChangePool { overcommit, reserve, soft_thresholds, hard_threshold, direct_io }
}

fn list(pools: &[Pool]) -> String {
    table(
        ["POOL", "SIZE", "FREE", "RESERVED", "DISKS", "PROMISED", "OVERCOMMIT", "DIRECTORY"],
        pools.iter().map(|pool| {
            let free = match &pool.unavailable {
                Some(why) => format!("unavailable: {why}"),
                None if pool.exhausted => format!("{}, exhausted", size::format(pool.free_bytes)),
                None => size::format(pool.free_bytes),
            };
            [
                pool.id.clone(),
                size::format(pool.total_bytes),
                free,
                size::format(pool.reserved_bytes),
                pool.disks.to_string(),
                size::format(pool.provisioned_bytes),
                pool.overcommit.clone(),
                pool.directory.clone(),
            ]
        }),
    )
}
