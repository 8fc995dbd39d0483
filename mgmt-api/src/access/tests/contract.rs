//! What holds for every route of REST: conditions, keys of requests, pages, problem details.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::*;

fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let document = answer.json();
    assert_eq!(document["status"], status);
    assert!(document["title"].is_string() && document["detail"].is_string(), "{document}");
    document
}

#[tokio::test]
async fn errors_are_problem_details_wherever_they_come_from() {
    let server = Server::open();
    let ask =
        async |method: &str, path: &str, body: Value| server.ask(method, path, &[], &body).await;
    let taken = ask("POST", "/disks", json!({"name": "d", "size_bytes": 1000})).await;
    let taken = problem(&taken, 400);
    assert_eq!(taken["title"], "Bad Request");
    assert_eq!(taken["error"]["owning_entity"], "LUND");
    assert_eq!(taken["error"]["message"], taken["detail"]);
    problem(&ask("GET", "/nothing", Value::Null).await, 404);
    problem(&ask("GET", "/disks/ghost", Value::Null).await, 404);
    let refused = ask("PATCH", "/disks", Value::Null).await;
    problem(&refused, 405);
    problem(&ask("GET", "/disks/%ff", Value::Null).await, 400);
    let long = "x".repeat(2 << 20);
    problem(&ask("POST", "/disks", json!({"name": long, "size_bytes": 512})).await, 413);
    problem(&Server::closed().ask("GET", "/status", &[], &Value::Null).await, 401);
}

#[tokio::test]
async fn a_change_for_a_state_that_is_gone_is_refused() {
    let server = Server::open();
    let none = Value::Null;
    let made = server.ask("POST", "/targets", &[], &json!({"name": "t"})).await;
    assert_eq!(made.status, 201);
    let seen = server.ask("GET", "/targets/t", &[], &none).await;
    let tag = seen.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
    let again = server.ask("GET", "/targets/t", &[("if-none-match", &tag)], &none).await;
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", &*tag));

    let access = json!({"access": [{"initiator": "iqn.2026-11.example:a"}]});
    let put = async |tag: &str, body: &Value| {
        server.ask("PUT", "/targets/t/access", &[("if-match", tag)], body).await
    };
    assert_eq!(put(&tag, &access).await.status, 200);
    problem(&put(&tag, &json!({"access": null})).await, 412);
    problem(&put(&format!("W/{tag}"), &json!({"access": null})).await, 412);
    let kept = server.ask("GET", "/targets/t", &[], &none).await;
    assert_eq!(kept.json()["access"][0]["initiator"], "iqn.2026-11.example:a");
    assert_ne!(kept.header("etag"), tag);
    problem(&server.ask("DELETE", "/targets/t", &[("if-match", &tag)], &none).await, 412);
    let list = format!("\"other\", {}", kept.header("etag"));
    assert_eq!(put(&list, &json!({"access": null})).await.status, 200);
    assert_eq!(server.ask("DELETE", "/targets/t", &[("if-match", "*")], &none).await.status, 204);
    problem(&server.ask("DELETE", "/targets/t", &[("if-match", "*")], &none).await, 412);
}

#[tokio::test]
async fn of_many_changes_for_one_state_one_is_made() {
    let server = Server::open();
    server.ask("POST", "/targets", &[], &json!({"name": "t"})).await;
    let tag = server.ask("GET", "/targets/t", &[], &Value::Null).await.header("etag").to_owned();
    let changes = (0..8).map(|number| {
        let (server, tag) = (&server, &tag);
        async move {
            let access =
                json!({"access": [{"initiator": format!("iqn.2026-11.example:{number}")}]});
            server.ask("PUT", "/targets/t/access", &[("if-match", tag)], &access).await.status
        }
    });
    let mut answers = futures_util::future::join_all(changes).await;
    answers.sort_unstable();
    assert_eq!(answers, [200, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn a_request_that_comes_again_with_its_key_starts_nothing_new() {
    let server = Server::open();
    let submit = async |key: &str, name: &str| {
        let body = json!({"name": name, "size_bytes": 1 << 20});
        server.ask("POST", "/disks", &[("idempotency-key", key)], &body).await
    };
    let (first, second) = tokio::join!(submit("k", "d"), submit("k", "d"));
    assert_eq!((first.status, second.status), (202, 202), "{first:?} {second:?}");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(second.json()["id"], *id);
    assert_eq!(first.header("location"), format!("/api/v1/jobs/{id}"));
    assert_eq!(second.header("location"), first.header("location"));
    let replayed: Vec<_> =
        [&first, &second].iter().map(|it| it.header("idempotency-replayed")).collect();
    assert!(replayed.contains(&"true") && replayed.contains(&""), "{replayed:?}");
    problem(&submit("k", "e").await, 422);
    problem(&submit("with space", "e").await, 400);
    problem(&submit("", "e").await, 400);
    // Another key is another request, and finds the name taken.
    problem(&submit("l", "d").await, 409);
    assert_eq!(server.engine.jobs().len(), 1);
}

#[tokio::test]
async fn lists_come_in_pages_and_only_what_is_wanted() {
    let server = Server::open();
    for name in ["a", "b", "c", "d", "e"] {
        let target = json!({"name": name, "alias": if name < "c" { "left" } else { "right" }});
        assert_eq!(server.ask("POST", "/targets", &[], &target).await.status, 201);
    }
    let names = |answer: &Answer| -> Vec<String> {
        let list = answer.json();
        let name = |it: &Value| it["name"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect()
    };
    let (mut path, mut seen, mut pages) = ("/targets?limit=2".to_owned(), Vec::new(), 0);
    loop {
        let page = server.ask("GET", &path, &[], &Value::Null).await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(names(&page));
        pages += 1;
        // What goes meanwhile moves nothing.
        if pages == 1 {
            assert_eq!(server.ask("DELETE", "/targets/b", &[], &Value::Null).await.status, 204);
        }
        let Some((link, rest)) = page.header("link").split_once('>') else { break };
        assert_eq!(rest, "; rel=\"next\"");
        path = link.strip_prefix("</api/v1").unwrap().to_owned();
    }
    assert_eq!((seen.join(""), pages), ("abcde".to_owned(), 3));
    let right = server.ask("GET", "/targets?alias=right", &[], &Value::Null).await;
    assert_eq!(names(&right), ["c", "d", "e"]);
    for wrong in ["limit=0", "limit=x", "cursor=%21", "size=1", "limit=1&limit=2"] {
        problem(&server.ask("GET", &format!("/targets?{wrong}"), &[], &Value::Null).await, 400);
    }
}

#[tokio::test]
async fn jobs_come_in_pages_narrowed_down_and_the_newest_first() {
    let server = Server::open();
    let (mut all, mut disks) = (Vec::new(), Vec::new());
    for (name, size) in [("a", 1_u64 << 20), ("b", 1 << 50), ("c", 1 << 20), ("d", 1 << 20)] {
        let disk = json!({"name": name, "size_bytes": size});
        let job = server.ask("POST", "/disks", &[], &disk).await.json();
        let id = job["id"].as_str().unwrap().to_owned();
        server.ask("GET", &format!("/jobs/{id}?wait_seconds=60"), &[], &Value::Null).await;
        disks.push(job["disk"].as_str().unwrap().to_owned());
        all.push(id);
    }
    let get = async |path: &str| server.ask("GET", path, &[], &Value::Null).await;
    let ids = |answer: &Answer| -> Vec<String> {
        let list = answer.json();
        let id = |it: &Value| it["id"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    };
    let (mut path, mut seen) = ("/jobs?state=Completed&limit=2".to_owned(), Vec::new());
    loop {
        let page = get(&path).await;
        seen.push(ids(&page));
        let Some((link, _)) = page.header("link").split_once('>') else { break };
        path = link.strip_prefix("</api/v1").unwrap().to_owned();
    }
    let [a, b, c, d] = all.clone().try_into().unwrap();
    assert_eq!(seen, [vec![a.clone(), c.clone()], vec![d.clone()]]);
    assert_eq!(ids(&get("/jobs?newest=2").await), [d.clone(), c.clone()]);
    assert_eq!(ids(&get("/jobs?newest=9&state=Exception").await), [b.as_str()]);
    assert_eq!(ids(&get(&format!("/jobs?disk={}", disks[2])).await), [c.as_str()]);
    assert_eq!(ids(&get("/jobs?kind=create-disk&ended=true").await), all);
    for nothing in ["ended=false", "kind=check-disk", "disk=a", "owner=nobody", "state=running"] {
        assert!(ids(&get(&format!("/jobs?{nothing}")).await).is_empty(), "{nothing}");
    }
    // A cursor that is no job's is a place between them like any other.
    let cursor = BASE64_URL_SAFE_NO_PAD.encode("!");
    assert_eq!(ids(&get(&format!("/jobs?cursor={cursor}&limit=1")).await), [a]);
    for wrong in ["newest=0", "newest=x", "newest=1&limit=1", "newest=1&newest=2", "newest=-1"] {
        problem(&get(&format!("/jobs?{wrong}")).await, 400);
    }
}

#[tokio::test]
async fn disks_come_in_pages_each_with_its_own_mappings() {
    let server = Server::open();
    let (get, post) = (
        async |path: &str| server.ask("GET", path, &[], &Value::Null).await,
        async |path: &str, body: Value| server.ask("POST", path, &[], &body).await,
    );
    for target in ["x", "y"] {
        assert_eq!(post("/targets", json!({ "name": target })).await.status, 201);
    }
    for name in ["a", "b", "c", "d"] {
        let job = post("/disks", json!({"name": name, "size_bytes": 1 << 20})).await.json();
        let id = job["id"].as_str().unwrap();
        get(&format!("/jobs/{id}?wait_seconds=60")).await;
    }
    for (target, disk, lun) in [("y", "b", 3), ("x", "b", 0), ("x", "d", 7)] {
        let path = format!("/targets/{target}/luns");
        assert_eq!(post(&path, json!({"disk": disk, "lun": lun})).await.status, 201);
    }
    // Names, and the LUNs of each.
    let shown = |answer: &Answer| -> Vec<(String, Vec<u64>)> {
        let list = answer.json();
        let luns = |it: &Value| {
            let all = it["mappings"].as_array().unwrap();
            all.iter().map(|mapping| mapping["lun"].as_u64().unwrap()).collect()
        };
        let one = |it: &Value| (it["name"].as_str().unwrap().to_owned(), luns(it));
        list.as_array().unwrap().iter().map(one).collect()
    };
    let all = shown(&get("/disks").await);
    let wanted = [("a", vec![]), ("b", vec![0, 3]), ("c", vec![]), ("d", vec![7])];
    assert_eq!(all, wanted.map(|(name, luns)| (name.to_owned(), luns)));
    let (mut path, mut seen, mut pages) = ("/disks?limit=3".to_owned(), Vec::new(), 0);
    loop {
        let page = get(&path).await;
        seen.extend(shown(&page));
        pages += 1;
        let Some((link, _)) = page.header("link").split_once('>') else { break };
        path = link.strip_prefix("</api/v1").unwrap().to_owned();
    }
    assert_eq!((&seen, pages), (&all, 2));
    assert_eq!(shown(&get("/disks?exposed=true").await), [all[1].clone(), all[3].clone()]);
    assert_eq!(shown(&get("/disks?exposed=false&limit=1").await), [all[0].clone()]);
    assert_eq!(shown(&get("/disks?name=c").await), [all[2].clone()]);
    assert_eq!(shown(&get("/disks?pool=default&exposed=true&name=d").await), [all[3].clone()]);
    for nothing in ["pool=other", "name=e", "exposed=yes"] {
        assert!(shown(&get(&format!("/disks?{nothing}")).await).is_empty(), "{nothing}");
    }
    // A cursor that is no disk's is a place between them like any other.
    let cursor = BASE64_URL_SAFE_NO_PAD.encode("!");
    assert_eq!(shown(&get(&format!("/disks?cursor={cursor}&limit=1")).await), [all[0].clone()]);
    // By name, and by identifier as it is written, and by nothing like it.
    let b = get("/disks/b").await.json();
    let id = b["id"].as_str().unwrap();
    assert_eq!(get(&format!("/disks/{id}")).await.json(), b);
    problem(&get(&format!("/disks/{}", id.to_uppercase())).await, 404);
    // What a target shows of them.
    let x = get("/targets/x").await.json();
    let luns: Vec<_> = x["luns"].as_array().unwrap().iter().map(|it| &it["disk_name"]).collect();
    assert_eq!(luns, ["b", "d"]);
    assert_eq!(get("/targets").await.json()[0], x);
}

#[tokio::test]
async fn a_job_in_a_list_is_what_it_is_by_itself() {
    let server = Server::open();
    let get = async |path: &str| server.ask("GET", path, &[], &Value::Null).await.json();
    let post = async |path: &str, name: &str, size: u64| {
        let disk = json!({"name": name, "size_bytes": size});
        server.ask("POST", path, &[], &disk).await.json()["id"].as_str().unwrap().to_owned()
    };
    let done = post("/disks", "done", 1 << 20).await;
    let failed = post("/disks", "failed", 1 << 50).await;
    for id in [&done, &failed] {
        get(&format!("/jobs/{id}?wait_seconds=60")).await;
    }
    let disk = get(&format!("/jobs/{done}")).await["disk"].as_str().unwrap().to_owned();
    let checks = json!({"checksums": true});
    let checked = server.ask("POST", &format!("/disks/{disk}/check"), &[], &checks).await.json();
    let checked = get(&format!("/jobs/{}?wait_seconds=60", checked["id"].as_str().unwrap())).await;
    assert_eq!(checked["checksums"]["state"], "made");
    let later = "start_at=2100-01-01T00:00:00Z&time_limit_seconds=9&bandwidth=4096&priority=7";
    post(&format!("/disks?{later}&after={done}"), "later", 1 << 20).await;
    let list = get("/jobs").await;
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 4);
    for job in list {
        let alone = get(&format!("/jobs/{}", job["id"].as_str().unwrap())).await;
        assert_eq!(*job, alone);
        // Clients written against the type read both.
        let read: api::Job = serde_json::from_value(job.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), alone);
    }
}

#[tokio::test]
async fn a_change_that_jobs_or_cim_clients_overtake_is_refused() {
    let server = Server::open();
    let none = Value::Null;
    server.ask("POST", "/targets", &[], &json!({"name": "t"})).await;
    let name = "iqn.2026-01.io.lund:t";
    for round in 0..40 {
        let tag = server.ask("GET", "/targets/t", &[], &none).await.header("etag").to_owned();
        // Straight to the engine, as CIM and jobs go, at the same time.
        let entry = |text: String| job_engine::AccessEntry {
            initiator: Some(text),
            ..job_engine::AccessEntry::default()
        };
        let theirs = entry(format!("iqn.2026-11.example:theirs-{round}"));
        let engine = server.engine.clone();
        let other = tokio::task::spawn_blocking(move || {
            engine.change_access(name, job_engine::AccessChange::Replace(vec![theirs])).unwrap();
        });
        let ours = format!("iqn.2026-11.example:ours-{round}");
        let body = json!({"access": [{"initiator": ours}]});
        let answer = server.ask("PUT", "/targets/t/access", &[("if-match", &tag)], &body).await;
        other.await.unwrap();
        let found = server.ask("GET", "/targets/t", &[], &none).await.json();
        let found = found["access"][0]["initiator"].as_str().unwrap().to_owned();
        // Theirs has no condition: it is what stays, whoever was first. If ours were made behind
        // it, that is ours.
        assert!(found.contains("theirs"), "{round}: {} {found}", answer.status);
        match answer.status {
            200 => {}
            412 => drop(problem(&answer, 412)),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_configuration_is_changed_for_a_generation_and_as_a_whole() {
    let server = Server::open();
    let none = Value::Null;
    let get = async || server.ask("GET", "/configuration", &[], &none).await;
    let put = async |query: &str, headers: &[(&str, &str)], body: &Value| {
        server.ask("PUT", &format!("/configuration{query}"), headers, body).await
    };
    let found = get().await;
    assert_eq!((found.status, found.header("etag")), (200, "\"0\""), "{found:?}");
    let wanted = json!({"targets": [{"name": "a"}, {"name": "b", "access": []}]});
    problem(&put("", &[], &wanted).await, 428);
    problem(&put("", &[("if-match", "\"1\"")], &wanted).await, 412);
    let dry = put("?dry_run=true", &[], &wanted).await;
    assert_eq!(dry.status, 200, "{dry:?}");
    let plan = dry.json();
    assert_eq!((&plan["applied"], &plan["generation"]), (&json!(false), &json!(0)));
    assert_eq!(plan["changes"].as_array().unwrap().len(), 2);
    assert_eq!(get().await.header("etag"), "\"0\"");
    let made = put("", &[("if-match", "\"0\"")], &wanted).await;
    assert_eq!((made.status, made.header("etag")), (200, "\"1\""), "{made:?}");
    // What was read is what there is: nothing to change, and no generation more.
    let all = get().await.json();
    let same = put("", &[("if-match", "*")], &all).await.json();
    assert_eq!((&same["changes"], &same["generation"]), (&json!([]), &json!(1)));
    assert_eq!(same["configuration"], all);
    server.ask("POST", "/targets", &[], &json!({"name": "c"})).await;
    // The body says what it is for, too.
    let late = problem(&put("", &[("if-match", "*")], &all).await, 412);
    assert!(late["detail"].as_str().unwrap().contains("generation 2"), "{late}");
    let wrong = [
        json!({"targets": [{"name": "a"}, {"name": "A"}]}),
        json!({"targets": [{"name": "a", "lun": 1}]}),
        json!({"limits": [{"iops": 1}]}),
        json!({"limits": [{"initiator": "iqn.2026-11.example:a", "iops": 0}]}),
        json!({"access_states": [{"group": 9, "state": "standby"}]}),
    ];
    for body in wrong {
        problem(&put("", &[("if-match", "*")], &body).await, 400);
    }
    let lun = json!({"targets": [{"name": "a", "luns": [{"lun": 0, "disk": "ghost"}]}]});
    problem(&put("", &[("if-match", "*")], &lun).await, 404);
    let disk = json!({"disks": [{"name": "new", "size_bytes": 1 << 20}]});
    problem(&put("", &[("if-match", "*")], &disk).await, 409);
    let dry = put("?dry_run=true", &[], &disk).await.json();
    assert_eq!(dry["jobs"][0]["kind"], "create-disk");
    assert_eq!(get().await.header("etag"), "\"2\"");
}
