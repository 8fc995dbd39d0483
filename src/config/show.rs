//! What the daemon runs with, for people: everything but secrets.

use mgmt_api::api::Setting;
use mgmt_api::space;
use serde_json::{Value, json};

use super::Config;
use super::data_path::ZERO_COPY_READS;

impl Config {
    /// All settings in force, in the order of their keys.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let fixed =
            |key: &str, value: Value| Setting { key: key.to_owned(), value, run_time: None };
        let alua = match (self.access_methods.implicit, self.access_methods.explicit) {
            (true, true) => "both",
            (true, false) => "implicit",
            (false, true) => "explicit",
            (false, false) => "none",
        };
        let groups: Vec<Value> = self
            .portal_groups
            .iter()
            .map(|it| json!({ "tag": it.tag, "listen": it.listen, "targets": it.targets }))
            .collect();
        let management = &self.management;
        let tls = management.tls.as_ref().map(|tls| &tls.listen);
        let telemetry = self.telemetry.as_ref();
        let endpoint = telemetry.map(|it| it.collector.endpoint.to_string());
        let service_name = telemetry.map(|it| &it.collector.service_name);
        let zero_copy_reads = ZERO_COPY_READS.iter().find(|(_, it)| *it == self.zero_copy_reads);
        vec![
            fixed("data_dir", json!(self.data_dir)),
            fixed("disks.allowed_directories", json!(self.allowed_directories)),
            fixed("disks.direct_io", json!(self.default_limits.direct_io)),
            fixed("disks.directory", json!(self.disks_dir)),
            fixed("disks.overcommit", json!(space::show(self.default_limits.overcommit))),
            fixed("iscsi.abort_seconds", json!(self.abort_time.as_secs())),
            fixed("iscsi.alua", json!(alua)),
            fixed("iscsi.logout_seconds", json!(self.logout_time.as_secs())),
            fixed("iscsi.max_backlog", json!(self.max_backlog)),
            fixed("iscsi.max_commands", json!(self.max_tasks)),
            fixed("iscsi.max_logins", json!(self.max_logins)),
            fixed("iscsi.max_sessions", json!(self.max_sessions)),
            fixed("iscsi.max_sessions_per_initiator", json!(self.max_sessions_per_initiator)),
            fixed("iscsi.max_sessions_per_target", json!(self.max_sessions_per_target)),
            fixed("iscsi.nice", json!(self.nice)),
            fixed("iscsi.portal_groups", json!(groups)),
            fixed("iscsi.zero_copy_reads", json!(zero_copy_reads.map(|(word, _)| word))),
            fixed("isns.server", json!(self.isns.as_ref().map(|it| &it.server))),
            fixed("jobs.back_off", json!(self.job_back_off)),
            Setting {
                run_time: Some("lunctl job limits, PUT /api/v1/job-limits".to_owned()),
                ..fixed("jobs.bandwidth", json!(self.job_bandwidth))
            },
            fixed("jobs.least_bandwidth", json!(self.job_least_bandwidth.unwrap_or(0))),
            fixed("jobs.max_running", json!(self.max_running_jobs)),
            fixed("jobs.max_running_per_pool", json!(self.max_running_jobs_per_pool)),
            fixed("jobs.max_unfinished", json!(self.max_unfinished_jobs)),
            fixed("jobs.max_ended", json!(self.max_ended_jobs)),
            fixed("log.level", json!(self.log_level)),
            fixed("management.listen", json!(management.listen)),
            fixed("management.socket", json!(management.socket)),
            fixed("management.tls.listen", json!(tls)),
            fixed("memory.pinned", json!(self.pinned)),
            fixed("telemetry.endpoint", json!(endpoint)),
            fixed("telemetry.requests", json!(telemetry.is_some_and(|it| it.requests))),
            fixed("telemetry.service_name", json!(service_name)),
        ]
    }
}
