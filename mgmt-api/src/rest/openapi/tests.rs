use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// The document that the whole router serves.
fn served() -> (Value, Table) {
    let server = crate::access::tests::Server::open();
    (document(&server.table), server.table)
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let (document, table) = served();
    let rules = table.rules().iter().filter(|rule| rule.path.starts_with(PREFIX));
    let routes: BTreeSet<_> =
        rules.map(|rule| (rule.path.clone(), rule.method.as_str().to_ascii_lowercase())).collect();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, of_path)| {
            let methods = of_path.as_object().unwrap().keys();
            methods.map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(described, routes);
    let ids: Vec<_> = paths
        .values()
        .flat_map(|of_path| of_path.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}

fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|it| references(it, found));
        }
        Value::Array(elements) => elements.iter().for_each(|it| references(it, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let (document, _) = served();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn what_may_be_left_out_of_a_request_is_always_there_in_an_answer() {
    let (document, _) = served();
    let schemas = &document["components"]["schemas"];
    let required = |name: &str| schemas[name]["required"].to_string();
    assert!(required("Access").contains("read_only"));
    assert!(!required("AccessInput").contains("read_only"));
    let problem = &document["paths"]["/api/v1/disks/{disk}"]["get"]["responses"]["404"];
    let schema = &problem["content"]["application/problem+json"]["schema"];
    let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(required(name).contains("detail"), "{}", schemas[name]);
    assert!(schemas[name]["properties"]["error"].is_object());
}
