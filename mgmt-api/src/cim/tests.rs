//! Requests against an engine, through the router.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use jiff::Timestamp;
use job_engine::error::NAMESPACE;
use job_engine::{
    CreateDisk, Engine, EngineConfig, JobState, MapRequest, Role, Submission, TargetRequest,
};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::xml::{self, Element};
use super::{Cimom, Indications, routes};
use crate::access::{Identity, Via};

struct Server {
    _directory: TempDir,
    engine: Arc<Engine>,
    cimom: Arc<Cimom>,
    /// Of whoever asks.
    role: Role,
}

impl Server {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let indications = Indications::new("lund".to_owned()).unwrap();
        let mut config = EngineConfig::new(directory.path());
        config.outbox = Some(indications.clone());
        let engine = Engine::open(config).unwrap();
        let cimom = Arc::new(Cimom::new(engine.clone(), indications));
        Self { _directory: directory, engine, cimom, role: Role::Administrator }
    }

    /// A disk that is there.
    fn disk(&self, name: &str) -> job_engine::Disk {
        let job = self.engine.create_disk(CreateDisk::new(name, 1 << 20)).unwrap();
        let job = self.engine.wait(&job, Duration::from_secs(30)).unwrap();
        assert_eq!(job.state, JobState::Completed);
        self.engine.disk(&job.kind.disk()).unwrap()
    }

    /// The text of the answer.
    async fn send(&self, call: &str, headers: &[(&str, &str)]) -> String {
        let body = format!(
            "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='1' PROTOCOLVERSION='1.0'>\
             <SIMPLEREQ>{call}</SIMPLEREQ></MESSAGE></CIM>"
        );
        let tree = xml::parse(&body).unwrap();
        let call = &tree.children[0].children[0].children[0];
        let object = call.child("LOCALINSTANCEPATH").map_or_else(String::new, |path| {
            format!(":{}", path.child("INSTANCENAME").unwrap().attribute("CLASSNAME").unwrap())
        });
        let mut request = Request::post("/cimom")
            .header("Content-Type", "application/xml")
            .header("CIMOperation", "MethodCall")
            .header("CIMMethod", call.attribute("NAME").unwrap())
            .header("CIMObject", format!("{NAMESPACE}{object}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let who = Identity { name: None, role: self.role, via: Via::Open };
        let request = request.extension(who).body(Body::from(body)).unwrap();
        let (router, _) = routes(self.cimom.clone()).into_parts();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// `IMETHODRESPONSE` or `METHODRESPONSE`.
    async fn response(&self, call: &str) -> Element {
        let text = self.send(call, &[]).await;
        assert!(!text.contains("/>"), "{text}");
        let tree = xml::parse(&text).unwrap();
        tree.children[0].children[0].children[0].clone()
    }

    async fn intrinsic(&self, name: &str, parameters: &[(&str, &str)]) -> Element {
        let parameters: String = parameters
            .iter()
            .map(|(name, value)| format!("<IPARAMVALUE NAME='{name}'>{value}</IPARAMVALUE>"))
            .collect();
        let call = format!("<IMETHODCALL NAME='{name}'>{}{parameters}</IMETHODCALL>", place());
        self.response(&call).await
    }

    async fn method(&self, object: &str, name: &str, parameters: &str) -> Element {
        let call = format!(
            "<METHODCALL NAME='{name}'><LOCALINSTANCEPATH>{}{object}</LOCALINSTANCEPATH>\
             {parameters}</METHODCALL>",
            place()
        );
        self.response(&call).await
    }
}

fn place() -> String {
    let parts = NAMESPACE.split('/').map(|part| format!("<NAMESPACE NAME='{part}'/>"));
    format!("<LOCALNAMESPACEPATH>{}</LOCALNAMESPACEPATH>", parts.collect::<String>())
}

fn instance_name(class: &str, keys: &[(&str, &str)]) -> String {
    let keys = keys.iter().map(|(name, value)| {
        format!("<KEYBINDING NAME='{name}'><KEYVALUE>{value}</KEYVALUE></KEYBINDING>")
    });
    format!("<INSTANCENAME CLASSNAME='{class}'>{}</INSTANCENAME>", keys.collect::<String>())
}

fn service() -> String {
    instance_name(
        super::instances::SERVICE,
        &[
            ("SystemCreationClassName", "MSFTSM_ComputerSystem"),
            ("SystemName", "lund"),
            ("CreationClassName", super::instances::SERVICE),
            ("Name", "lund"),
        ],
    )
}

fn volume(disk: &job_engine::Disk) -> String {
    instance_name(
        super::instances::VOLUME,
        &[
            ("SystemCreationClassName", "MSFTSM_ComputerSystem"),
            ("SystemName", "lund"),
            ("CreationClassName", super::instances::VOLUME),
            ("DeviceID", &disk.id.to_string()),
        ],
    )
}

/// `CODE` of the `ERROR`, 0 without one.
fn code(response: &Element) -> u32 {
    response.child("ERROR").map_or(0, |error| error.attribute("CODE").unwrap().parse().unwrap())
}

fn return_value(response: &Element) -> u32 {
    response.child("RETURNVALUE").unwrap().child("VALUE").unwrap().text.parse().unwrap()
}

fn output<'e>(response: &'e Element, name: &str) -> Option<&'e Element> {
    let parameters = response.children.iter().filter(|child| child.name == "PARAMVALUE");
    parameters.into_iter().find(|child| child.attribute("NAME") == Some(name))
}

/// The text of a property of an `INSTANCE`.
fn property<'e>(instance: &'e Element, name: &str) -> &'e str {
    let found = instance.children.iter().find(|child| child.attribute("NAME") == Some(name));
    found.unwrap().child("VALUE").map_or("", |value| &value.text)
}

#[tokio::test]
async fn a_job_without_an_error_answers_no_error_parameter_at_all() {
    let server = Server::new();
    let later = Timestamp::now() + Duration::from_secs(3600);
    let waiting = Submission { scheduled_start_time: Some(later), ..Submission::default() };
    let id = server.engine.create_disk_with(CreateDisk::new("a", 512), waiting).unwrap();
    let job = instance_name("MSISCSITARGET_ConcreteJob", &[("InstanceID", &id.instance_id())]);
    for name in ["GetError", "GetErrors"] {
        let response = server.method(&job, name, "").await;
        assert_eq!(return_value(&response), 0);
        assert_eq!(response.children.len(), 1, "{response:?}");
    }
    // A job that has not ended stays.
    let response = server.intrinsic("DeleteInstance", &[("InstanceName", &job)]).await;
    assert_eq!(code(&response), 1);
    let terminate = "<PARAMVALUE NAME='RequestedState'><VALUE>4</VALUE></PARAMVALUE>";
    let value = return_value(&server.method(&job, "RequestStateChange", terminate).await);
    assert!([0, 4096].contains(&value), "{value}");
    let ended = server.engine.wait(&id, Duration::from_secs(30)).unwrap();
    assert_eq!(ended.state, JobState::Terminated);

    // Clients may send the output parameter along.
    let sent = "<PARAMVALUE NAME='Error' PARAMTYPE='string'/>";
    let response = server.method(&job, "GetError", sent).await;
    let error = output(&response, "Error").unwrap();
    assert_eq!(error.attribute("EmbeddedObject"), Some("instance"));
    let inner = xml::parse(&error.child("VALUE").unwrap().text).unwrap();
    assert_eq!(inner.attribute("CLASSNAME"), Some("CIM_Error"));
    assert_eq!(property(&inner, "OtherErrorType"), "Cancelled");
    assert_eq!(code(&server.intrinsic("DeleteInstance", &[("InstanceName", &job)]).await), 0);
}

#[tokio::test]
async fn the_start_of_a_waiting_job_can_be_moved() {
    let server = Server::new();
    let later = Timestamp::now() + Duration::from_secs(3600);
    let waiting = Submission { scheduled_start_time: Some(later), ..Submission::default() };
    let id = server.engine.create_disk_with(CreateDisk::new("a", 512), waiting).unwrap();
    let job = instance_name("MSISCSITARGET_ConcreteJob", &[("InstanceID", &id.instance_id())]);
    let set = async |name: &str, value: &str| {
        let value = format!("<VALUE>{value}</VALUE>");
        let name = format!("<VALUE>{name}</VALUE>");
        let parameters = [("InstanceName", &*job), ("PropertyName", &name), ("NewValue", &value)];
        code(&server.intrinsic("SetProperty", &parameters).await)
    };
    assert_eq!(set("ScheduledStartTime", "00000000000500.000000:000").await, 13);
    assert_eq!(set("ScheduledStartTime", "soon").await, 13);
    assert_eq!(set("JobState", "4").await, 7);
    assert_eq!(set("RunMonth", "1").await, 7);
    assert_eq!(set("Colour", "1").await, 12);
    assert_eq!(set("Priority", "3").await, 0);
    assert_eq!(set("ScheduledStartTime", "20200101000000.000000+000").await, 0);
    let job = server.engine.wait(&id, Duration::from_secs(30)).unwrap();
    assert_eq!((job.state, job.priority), (JobState::Completed, 3));
}

#[tokio::test]
async fn the_cim_error_in_an_error_is_kept_from_clients_that_do_not_know_it() {
    let server = Server::new();
    server.disk("taken");
    let call = format!(
        "<METHODCALL NAME='CreateOrModifyElementFromStoragePool'><LOCALINSTANCEPATH>{}{}\
         </LOCALINSTANCEPATH><PARAMVALUE NAME='ElementName'><VALUE>taken</VALUE></PARAMVALUE>\
         <PARAMVALUE NAME='ElementType'><VALUE>5</VALUE></PARAMVALUE>\
         <PARAMVALUE NAME='Size'><VALUE>512</VALUE></PARAMVALUE></METHODCALL>",
        place(),
        service()
    );
    let modern = server.send(&call, &[]).await;
    assert!(
        modern.contains("CODE=\"11\"") && modern.contains("<INSTANCE CLASSNAME=\"CIM_Error\">")
    );
    let old = server.send(&call, &[("CIMProtocolVersion", "1.0")]).await;
    assert!(old.contains("CODE=\"11\"") && !old.contains("<INSTANCE"), "{old}");
}

#[tokio::test]
async fn a_mapped_disk_is_in_use_and_its_lun_is_upper_case_hexadecimal() {
    let server = Server::new();
    let disk = server.disk("a");
    let request = TargetRequest { name: "t".to_owned(), alias: "Tea".to_owned() };
    let target = server.engine.create_target(request).unwrap();
    let map = MapRequest { disk: disk.id, target: target.name.clone(), lun: Some(0x1a) };
    server.engine.map(map).unwrap();

    let element = format!(
        "<PARAMVALUE NAME='TheElement'><VALUE.REFERENCE>{}</VALUE.REFERENCE></PARAMVALUE>",
        volume(&disk)
    );
    let response = server.method(&service(), "ReturnToStoragePool", &element).await;
    assert_eq!(return_value(&response), 6);
    assert!(output(&response, "Job").is_none());

    let links = server
        .intrinsic(
            "References",
            &[
                ("ObjectName", &*volume(&disk)),
                ("ResultClass", "<CLASSNAME NAME='CIM_ProtocolControllerForUnit'/>"),
            ],
        )
        .await;
    let [link] = links.children[0].children.as_slice() else { panic!("{links:?}") };
    assert_eq!(property(&link.children[1], "DeviceNumber"), "1A");
    let controllers = server
        .intrinsic(
            "Associators",
            &[
                ("ObjectName", &*volume(&disk)),
                ("ResultClass", "<CLASSNAME NAME='CIM_SCSIProtocolController'/>"),
            ],
        )
        .await;
    let [controller] = controllers.children[0].children.as_slice() else {
        panic!("{controllers:?}")
    };
    assert_eq!(property(&controller.children[1], "Name"), "iqn.2026-01.io.lund:t");
    assert_eq!(property(&controller.children[1], "ElementName"), "Tea");
}

#[tokio::test]
async fn open_enumerations_keep_no_client_out() {
    let server = Server::new();
    let class = ("ClassName", "<CLASSNAME NAME='CIM_StoragePool'/>");
    let longest = ("OperationTimeout", "<VALUE>600</VALUE>");
    let mut contexts = Vec::new();
    for _ in 0..100 {
        let opened = server.intrinsic("OpenEnumerateInstancePaths", &[class, longest]).await;
        let context = output(&opened, "EnumerationContext").unwrap();
        contexts.push(context.child("VALUE").unwrap().text.clone());
    }
    let context = format!("<VALUE>{}</VALUE>", contexts[0]);
    let first = [("EnumerationContext", &*context), ("MaxObjectCount", "<VALUE>1</VALUE>")];
    assert_eq!(code(&server.intrinsic("PullInstancePaths", &first).await), 21, "it gave way");
    let context = format!("<VALUE>{}</VALUE>", contexts[99]);
    // A pull of the other kind leaves it alone.
    let count = ("MaxObjectCount", "<VALUE>1000</VALUE>");
    let pull = [("EnumerationContext", &*context), count];
    assert_eq!(code(&server.intrinsic("PullInstancesWithPath", &pull).await), 21);
    let pulled = server.intrinsic("PullInstancePaths", &pull).await;
    assert_eq!(output(&pulled, "EndOfSequence").unwrap().child("VALUE").unwrap().text, "TRUE");
    // The pool, and the one that it takes its space from.
    assert_eq!(pulled.children[0].children.len(), 2);
    assert_eq!(code(&server.intrinsic("PullInstancePaths", &pull).await), 21);
    assert_eq!(code(&server.intrinsic("OpenEnumerateInstancePaths", &[class]).await), 0);
}

#[tokio::test]
async fn a_path_of_another_class_or_with_other_keys_finds_nothing() {
    let server = Server::new();
    let disk = server.disk("a");
    let get =
        async |name: &str| code(&server.intrinsic("GetInstance", &[("InstanceName", name)]).await);
    let right = volume(&disk);
    assert_eq!(get(&right).await, 0);
    assert_eq!(get(&right.replace("SystemName", "systemname")).await, 0);
    assert_eq!(get(&right.replace(">lund<", ">other<")).await, 6);
    assert_eq!(get("<INSTANCENAME CLASSNAME='MSISCSITARGET_StorageVolume'/>").await, 6);
    assert_eq!(get("<INSTANCENAME CLASSNAME='CIM_Nothing'/>").await, 5);
    let id = disk.created_by.instance_id();
    let job = instance_name("MSISCSITARGET_ConcreteJob", &[("InstanceID", &id)]);
    assert_eq!(get(&job).await, 0);
    assert_eq!(get(&job.replace("MSISCSITARGET:", "")).await, 6);
    assert_eq!(get(&job.replace("'InstanceID'", "'Name'")).await, 6);
    let nameless = format!(
        "<INSTANCENAME CLASSNAME='MSISCSITARGET_ConcreteJob'><KEYVALUE>{id}</KEYVALUE>\
         </INSTANCENAME>"
    );
    assert_eq!(get(&nameless).await, 0);
}

#[tokio::test]
async fn parameters_that_an_operation_does_not_have_are_refused() {
    let server = Server::new();
    let class = ("ClassName", "<CLASSNAME NAME='CIM_Job'/>");
    let colour = ("Colour", "<VALUE>red</VALUE>");
    assert_eq!(code(&server.intrinsic("EnumerateInstances", &[class, colour]).await), 4);
    assert_eq!(code(&server.intrinsic("EnumerateInstances", &[class, class]).await), 4);
    assert_eq!(code(&server.intrinsic("EnumerateInstances", &[]).await), 4);
    let deep = ("DeepInheritance", "<VALUE>perhaps</VALUE>");
    assert_eq!(code(&server.intrinsic("EnumerateInstances", &[class, deep]).await), 4);
    let many = format!("<VALUE.ARRAY>{}</VALUE.ARRAY>", "<VALUE>x</VALUE>".repeat(513));
    let many = ("PropertyList", &*many);
    assert_eq!(code(&server.intrinsic("EnumerateInstances", &[class, many]).await), 4);
    assert_eq!(code(&server.intrinsic("NoSuchOperation", &[]).await), 7);
}

#[tokio::test]
async fn accounts_of_chap_are_for_administrators() {
    let server = Server::new();
    let account = "<INSTANCE CLASSNAME='CIM_SharedSecret'><PROPERTY NAME='RemoteID' \
                   TYPE='string'><VALUE>u</VALUE></PROPERTY></INSTANCE>";
    let create = async |server: &Server| {
        code(&server.intrinsic("CreateInstance", &[("NewInstance", account)]).await)
    };
    // There is no data path whose initiators it could let in.
    assert_eq!(create(&server).await, 7);
    assert_eq!(create(&Server { role: Role::Operator, ..server }).await, 2);
}
