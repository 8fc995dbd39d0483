//! The OpenAPI document (3.1), made from the routes, the types that go over the wire, and what
//! [`operations`] says of each route. A test holds the three together.

mod operations;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use job_engine::Role;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use self::operations::{Body, Operation, Schema, all};
use super::PREFIX;
use super::error::{Document, PROBLEM_JSON, problem};
use crate::routes::{Routes, Table, Who};

/// Filled when all routes are known.
pub(crate) type Cell = Arc<OnceLock<Bytes>>;

/// The route of the document.
pub(crate) fn routes(cell: Cell) -> Routes {
    Routes::below(PREFIX).get(Role::Viewer, "/openapi.json", show).with_state(cell)
}

async fn show(State(cell): State<Cell>) -> Response {
    match cell.get() {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "it is not made yet"),
    }
}

const DEFINITIONS: &str = "/components/schemas";

/// Schemas of what is sent to the daemon and of what it answers. One type may be both, with other
/// members required.
struct Schemas {
    asked: SchemaGenerator,
    told: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = DEFINITIONS.into();
            settings.meta_schema = None;
        });
        Self {
            asked: settings.clone().for_deserialize().into_generator(),
            told: settings.for_serialize().into_generator(),
        }
    }

    fn asked(&mut self, schema: Schema) -> Value {
        schema(&mut self.asked).to_value()
    }

    fn told(&mut self, schema: Schema) -> Value {
        schema(&mut self.told).to_value()
    }

    /// The parameters that a type of a query stands for.
    fn query(&mut self, schema: Schema) -> Vec<Value> {
        let schema = self.asked(schema);
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|it| it.rsplit('/').next());
        let definitions = self.asked.definitions();
        let object = name.and_then(|name| definitions.get(name)).unwrap_or(&schema);
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |it| it.iter().filter_map(Value::as_str).collect());
        let properties = object.get("properties").and_then(Value::as_object);
        let parameter = |(name, schema): (&String, &Value)| {
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str()),
                "schema": without_null(schema.clone()),
            })
        };
        properties.map_or_else(Vec::new, |it| it.iter().map(parameter).collect())
    }

    /// All definitions, and the document with references to those that have another name now.
    fn finish(mut self, mut document: Value) -> Value {
        let mut told = self.told.take_definitions(true);
        let mut asked = self.asked.take_definitions(true);
        let both: BTreeSet<String> =
            asked.keys().filter(|name| told.contains_key(*name)).cloned().collect();
        for definition in asked.values_mut() {
            rename(definition, &both);
        }
        // What is sent stands under `requestBody` alone.
        each_operation(&mut document, |operation| {
            for part in ["requestBody", "parameters"] {
                if let Some(part) = operation.get_mut(part) {
                    rename(part, &both);
                }
            }
        });
        for (name, definition) in asked {
            told.insert(if both.contains(&name) { input(&name) } else { name }, definition);
        }
        if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
            components.insert("schemas".to_owned(), Value::Object(told));
        }
        document
    }
}

fn input(name: &str) -> String {
    format!("{name}Input")
}

/// A parameter that is not given is left out.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema.get_mut("type")
        && let Some(list) = types.as_array()
    {
        let mut others = list.iter().filter(|it| *it != "null").cloned();
        if let Some(one) = others.next() {
            *types = one;
        }
    }
    if let Some(map) = schema.as_object_mut() {
        map.remove("default");
    }
    schema
}

fn rename(value: &mut Value, names: &BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(name) = reference.rsplit('/').next().map(str::to_owned)
                && names.contains(&name)
            {
                *reference = format!("#{DEFINITIONS}/{}", input(&name));
            }
            for member in members.values_mut() {
                rename(member, names);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                rename(element, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn each_operation(document: &mut Value, mut change: impl FnMut(&mut Value)) {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for path in paths.values_mut().filter_map(Value::as_object_mut) {
        for operation in path.values_mut() {
            change(operation);
        }
    }
}

/// The document for the routes of a table.
pub(crate) fn document(table: &Table) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in all() {
        let path = format!("{PREFIX}{}", operation.path);
        let who = table.who(&operation.method, &path);
        let described = describe(&operation, who, &mut schemas);
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(of_path) = of_path.as_object_mut() {
            of_path.insert(operation.method.as_str().to_ascii_lowercase(), described);
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "lund",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Management of an iSCSI target. docs/rest.md tells what holds for all \
                            operations.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "basic": [] }, { "session": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
                "session": { "type": "apiKey", "in": "cookie", "name": "lund-session" },
            },
        },
    });
    schemas.finish(document)
}

fn header(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "header",
        "required": false,
        "description": description,
        "schema": { "type": "string" },
    })
}

fn describe(operation: &Operation, who: Who, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = operation
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect();
    if let Some(query) = operation.query {
        parameters.extend(schemas.query(query));
    }
    if let Some(filters) = operation.filters {
        let limit = json!({ "type": "integer", "minimum": 1 });
        parameters.push(json!({ "name": "limit", "in": "query", "schema": limit }));
        let text = json!({ "type": "string" });
        for name in filters.iter().chain(&["cursor"]) {
            parameters.push(json!({ "name": name, "in": "query", "schema": text }));
        }
    }
    if operation.starts_job() {
        let what = "The same request with the same key is answered with the same job.";
        parameters.push(header("Idempotency-Key", what));
    }
    if operation.path == "/events" {
        parameters.push(header("Last-Event-ID", "The last event that was received."));
    }
    if operation.has_tag() {
        let (name, what) = if operation.changes() {
            ("If-Match", "Only if it still has this tag.")
        } else {
            ("If-None-Match", "Only if it has another tag by now.")
        };
        parameters.push(header(name, what));
    }
    let mut described = json!({
        "summary": operation.summary,
        "operationId": operation.id(),
        "tags": [operation.tag()],
        "description": format!("For the role: {}.", who.name()),
        "parameters": parameters,
        "responses": responses(operation, schemas),
    });
    if who == Who::Everybody
        && let Some(members) = described.as_object_mut()
    {
        members.insert("security".to_owned(), json!([]));
    }
    if let (Some(body), Some(members)) = (operation.body, described.as_object_mut()) {
        let content = json!({ "application/json": { "schema": schemas.asked(body) } });
        members.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    described
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let content = match operation.answer {
        Body::Nothing => None,
        Body::Json(schema) => {
            Some(json!({ "application/json": { "schema": schemas.told(schema) } }))
        }
        Body::Other(media_type) => Some(json!({ media_type: {} })),
    };
    let mut good = json!({ "description": "It is done." });
    if operation.starts_job() || operation.status == StatusCode::ACCEPTED {
        good = json!({
            "description": "It is begun: the job.",
            "headers": { "Location": { "schema": { "type": "string" } } },
        });
    }
    if let (Some(content), Some(members)) = (content, good.as_object_mut()) {
        members.insert("content".to_owned(), content);
    }
    let mut responses = Map::from_iter([(operation.status.as_str().to_owned(), good)]);
    let schema = schemas.told(SchemaGenerator::subschema_for::<Document<'_>>);
    for status in operation.errors() {
        let description = status.canonical_reason().unwrap_or("Error");
        let content = json!({ PROBLEM_JSON: { "schema": schema } });
        let error = json!({ "description": description, "content": content });
        responses.insert(status.as_str().to_owned(), error);
    }
    if operation.has_tag() && !operation.changes() {
        responses.insert("304".to_owned(), json!({ "description": "It is still the same." }));
    }
    Value::Object(responses)
}
