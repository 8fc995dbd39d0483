//! The table of who may do what, walked by everybody.

use std::fmt::Write as _;

use super::*;
use crate::cim::rights::{METHODS, OPERATIONS};
use crate::cim::wsman;
use crate::routes::Who;

/// Nobody, and one of each role.
fn everybody() -> impl Iterator<Item = Option<Role>> {
    [None].into_iter().chain(Role::ALL.map(Some))
}

fn may(role: Option<Role>, who: Who) -> bool {
    match who {
        Who::Everybody => true,
        Who::AtLeast(least) => role.is_some_and(|role| role >= least),
    }
}

#[tokio::test]
async fn every_route_lets_in_those_that_the_table_names_and_nobody_else() {
    let server = Server::closed();
    assert!(server.table.rules().len() > 40);
    for rule in server.table.rules() {
        let path: String = rule.path.replace(['{', '}'], "");
        for role in everybody() {
            let mut request = Request::builder().method(rule.method.clone()).uri(&path);
            if let Some(role) = role {
                request = request.header("authorization", bearer(role));
            }
            let answer = server.send(loopback(), request.body(Body::empty()).unwrap()).await;
            let (row, who) = (format!("{} {path} for {role:?}", rule.method), rule.who);
            match (may(role, who), role) {
                (true, _) => assert!(!matches!(answer.status, 401 | 403), "{row}: {answer:?}"),
                (false, None) => assert_eq!(answer.status, 401, "{row}: {answer:?}"),
                (false, Some(_)) => assert_eq!(answer.status, 403, "{row}: {answer:?}"),
            }
        }
    }
    assert_eq!(server.ask("GET", "/nothing", &[], &Value::Null).await.status, 401);
}

fn call(name: &str, method: bool) -> String {
    let namespace = "<NAMESPACE NAME='root'/><NAMESPACE NAME='cimv2'/><NAMESPACE NAME='storage'/>\
                     <NAMESPACE NAME='iscsitarget'/>";
    let namespace = format!("<LOCALNAMESPACEPATH>{namespace}</LOCALNAMESPACEPATH>");
    let call = if method {
        format!(
            "<METHODCALL NAME='{name}'><LOCALCLASSPATH>{namespace}<CLASSNAME NAME='CIM_Job'/>\
             </LOCALCLASSPATH></METHODCALL>"
        )
    } else {
        format!("<IMETHODCALL NAME='{name}'>{namespace}</IMETHODCALL>")
    };
    format!(
        "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='1' PROTOCOLVERSION='1.0'><SIMPLEREQ>\
         {call}</SIMPLEREQ></MESSAGE></CIM>"
    )
}

async fn send(server: &Server, name: &str, method: bool, role: Option<Role>) -> Answer {
    let class = if method { ":CIM_Job" } else { "" };
    let mut request = Request::post("/cimom")
        .header("content-type", "application/xml; charset=utf-8")
        .header("CIMOperation", "MethodCall")
        .header("CIMMethod", name)
        .header("CIMObject", format!("root/cimv2/storage/iscsitarget{class}"));
    if let Some(role) = role {
        request = request.header("authorization", bearer(role));
    }
    let body = Body::from(call(name, method));
    server.send(loopback(), request.body(body).unwrap()).await
}

#[tokio::test]
async fn every_cim_operation_and_method_is_for_those_that_the_table_names() {
    let server = Server::closed();
    let unknown =
        [("CreateClass", false, Role::Administrator), ("Format", true, Role::Administrator)];
    let operations = OPERATIONS.iter().map(|(name, role)| (*name, false, *role));
    let methods = METHODS.iter().map(|(name, role)| (*name, true, *role));
    for (name, method, needed) in operations.chain(methods).chain(unknown) {
        for role in everybody() {
            let answer = send(&server, name, method, role).await;
            let Some(role) = role else {
                assert_eq!(answer.status, 401, "{name}");
                assert!(answer.header("www-authenticate").starts_with("Basic "), "{name}");
                continue;
            };
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            let denied = answer.text.contains("<ERROR CODE=\"2\"");
            assert_eq!(denied, role < needed, "{name} for {role}: {answer:?}");
        }
    }
    // What changes something is written down, and what was refused.
    let audit = server.audit();
    let of = |name: &str| audit.iter().filter(|it| it["method"] == name).count();
    assert_eq!((of("DeleteInstance"), of("GetInstance")), (3, 0));
    assert_eq!((of("KillJob"), of("CreateClass")), (3, 3));
}

const CLASS: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_Job";

async fn manage(server: &Server, action: &str, role: Option<Role>) -> Answer {
    let envelope = format!(
        "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope' \
         xmlns:a='http://schemas.xmlsoap.org/ws/2004/08/addressing' \
         xmlns:w='http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd'><s:Header>\
         <a:Action>{action}</a:Action><a:MessageID>uuid:1</a:MessageID>\
         <w:ResourceURI>{CLASS}</w:ResourceURI></s:Header><s:Body/></s:Envelope>"
    );
    let mut request = Request::post("/wsman").header("content-type", "application/soap+xml");
    if let Some(role) = role {
        request = request.header("authorization", bearer(role));
    }
    server.send(loopback(), request.body(Body::from(envelope)).unwrap()).await
}

#[tokio::test]
async fn every_action_of_ws_management_is_for_those_that_the_table_names() {
    let server = Server::closed();
    let role_of = |operation: &str| OPERATIONS.iter().find(|(own, _)| *own == operation).unwrap().1;
    let actions = wsman::actions().map(|(action, operation)| (action, role_of(operation)));
    let methods = METHODS.iter().map(|(name, role)| (format!("{CLASS}/{name}"), *role));
    let unknown = [(format!("{CLASS}/Format"), Role::Administrator)];
    for (action, needed) in actions.chain(methods).chain(unknown) {
        for role in everybody() {
            let answer = manage(&server, &action, role).await;
            let Some(role) = role else {
                assert_eq!(answer.status, 401, "{action}");
                assert!(answer.header("www-authenticate").starts_with("Basic "), "{action}");
                continue;
            };
            // There is no such instance, or no body.
            assert_eq!(answer.status, 500, "{action}: {answer:?}");
            assert!(answer.text.contains("<a:RelatesTo>uuid:1<"), "{answer:?}");
            let denied = answer.text.contains("w:AccessDenied");
            assert_eq!(denied, role < needed, "{action} for {role}: {answer:?}");
        }
    }
    let audit = server.audit();
    let of = |name: &str| audit.iter().filter(|it| it["method"] == name).count();
    assert_eq!((of("DeleteInstance"), of("GetInstance"), of("KillJob")), (3, 0, 3));
}

/// `docs/access.md`
fn document(table: &Table) -> String {
    let mut text = String::from(
        "# Who may do what\n\n\
         A role may do what those before it may: viewer, operator, administrator. `everybody` is \
         whoever reaches the daemon. While there is no administrator, whoever reaches a loopback \
         address is one (`docs/security.md`).\n\n\
         This file is made from the routes themselves (`mgmt-api/src/routes.rs`) and from \
         `mgmt-api/src/cim/rights.rs`; a test holds them together \
         (`UPDATE_DOCS=1 cargo test -p mgmt-api who_may` writes it).\n\n\
         ## HTTP\n\n| | | |\n|---|---|---|\n",
    );
    let mut rules: Vec<_> = table.rules().iter().collect();
    rules.sort_by_key(|rule| (rule.path.clone(), rule.method.to_string()));
    for rule in rules {
        writeln!(text, "| {} | `{}` | {} |", rule.method, rule.path, rule.who.name()).unwrap();
    }
    text.push_str(
        "\n## CIM\n\nFor `/cimom`, this is looked at in addition. What is not listed is refused.\n\n\
         | | | |\n|---|---|---|\n",
    );
    for (kind, list) in [("operation", OPERATIONS), ("method", METHODS)] {
        for (name, role) in list {
            writeln!(text, "| {kind} | `{name}` | {role} |").unwrap();
        }
    }
    text.push_str(
        "\n## WS-Management\n\nFor `/wsman`: an action needs what the CIM operation beside it needs, \
         a method what is said above.\n\n| | |\n|---|---|\n",
    );
    for (action, operation) in wsman::actions() {
        writeln!(text, "| `{action}` | `{operation}` |").unwrap();
    }
    text
}

#[test]
fn docs_access_md_says_who_may_do_what() {
    let server = Server::open();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access.md");
    let wanted = document(&server.table);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "UPDATE_DOCS=1 cargo test -p mgmt-api who_may writes docs/access.md");
}
