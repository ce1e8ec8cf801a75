//! Holds SINK-READ-1: a sink is read in full or not at all.

use crate::common;

use std::collections::BTreeMap;
use std::path::Path;

use common::service::{Reply, Seen, Service, answer};
use common::{head, lines_sink};
use lossproof_env::{Disk, Environment, SimDisk};
use lossproof_pipeline::Config;
use lossproof_pipeline::sink::read::{ReadSinkError, read};
use serde_json::{Value, json};

type Documents = BTreeMap<String, String>;

fn read_all(config: &str, disk: &dyn Disk) -> Result<Documents, ReadSinkError> {
    let config = Config::parse(config).unwrap();
    let mut documents = Documents::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read(&config.sink, disk, &mut |id, document| {
        let text = String::from_utf8(document.to_vec()).unwrap();
        assert_eq!(documents.insert(id.to_owned(), text), None);
    }))?;
    Ok(documents)
}

fn read_index(service: &Service) -> Result<Documents, ReadSinkError> {
    let sink = format!("[sink]\nkind = 'opensearch'\nurl = '{}'\nindex = 'news'\n", service.url);
    read_all(&(head("") + &sink), &*Environment::real().disk)
}

fn page(ids: &[&str]) -> Value {
    let hit = |id: &&str| json!({ "_index": "news", "_id": id, "_source": { "n": id } });
    json!({
        "_scroll_id": "place", "took": 1, "timed_out": false,
        "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 },
        "hits": { "total": { "value": 3 }, "hits": ids.iter().map(hit).collect::<Vec<_>>() },
    })
}

/// An index of three documents, in pages of two; `change` spoils the answer with this number.
fn index(change: impl Fn(usize, Value) -> Reply + Send + Sync + 'static) -> Service {
    Service::start(move |number, seen: &Seen| {
        let reply = match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/news/_refresh") => json!({}),
            ("POST", "/news/_search") => page(&["a", "b"]),
            ("POST", "/_search/scroll") if number == 2 => page(&["c"]),
            ("POST", "/_search/scroll") => page(&[]),
            ("DELETE", "/_search/scroll") => json!({ "succeeded": true }),
            other => panic!("{other:?} is not asked"),
        };
        change(number, reply)
    })
}

#[test]
fn an_index_is_read_page_by_page_and_its_place_given_back() {
    let service = index(|_, reply| answer(200, reply.to_string()));
    let documents = read_index(&service).unwrap();
    let expected = ["a", "b", "c"].map(|id| (id.to_owned(), format!("{{\"n\":\"{id}\"}}")));
    assert_eq!(documents, Documents::from(expected));
    let seen = service.seen();
    let place = json!({ "scroll_id": "place" }).to_string();
    assert_eq!((seen[4].method.as_str(), &seen[4].body), ("DELETE", &place));
}

/// It was taken for empty: an address or an index with a slip in it was a sink read in full.
#[test]
fn an_index_that_is_not_there_is_not_read() {
    let service = Service::start(|_, _| answer(404, r#"{"error":{"type":"index_not_found"}}"#));
    let outcome = read_index(&service);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("there is no index news"), "{error}");
}

/// SINK-READ-1, at every answer but the one to the giving back.
#[test]
fn a_page_that_fails_is_an_error_and_never_the_end() {
    let spoil: [fn(Value) -> Reply; 4] = [
        |_| answer(503, "busy"),
        |reply| answer(200, &reply.to_string()[..reply.to_string().len() / 2]),
        |mut reply| {
            reply["_shards"]["failed"] = json!(1);
            answer(200, reply.to_string())
        },
        |mut reply| {
            reply["timed_out"] = json!(true);
            answer(200, reply.to_string())
        },
    ];
    for spoil in spoil {
        for spoiled in 1..=3 {
            let service = index(move |number, reply| {
                if number == spoiled { spoil(reply) } else { answer(200, reply.to_string()) }
            });
            let outcome = read_index(&service);
            assert!(matches!(outcome, Err(ReadSinkError::Server { .. })), "{outcome:?}");
        }
    }
    let service = index(|_, _| answer(503, "busy"));
    assert!(read_index(&service).unwrap_err().to_string().contains("HTTP 503: busy"));
}

#[test]
fn a_file_is_read_up_to_its_last_line_break() {
    let path = Path::new("/out/news.jsonl");
    let config = head("") + &lines_sink(path);
    let disk = SimDisk::new();
    // So was a file that was looked for in another directory.
    let error = read_all(&config, &disk).unwrap_err().to_string();
    assert!(error.contains("/out/news.jsonl is not there"), "{error}");
    assert!(error.contains("relative path is taken from the present directory"), "{error}");

    disk.create_dir_all(Path::new("/out")).unwrap();
    let file = disk.create(path).unwrap();
    let write = |text: &str| {
        file.truncate(0).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    };
    let line = |id: &str| format!("{{\"_id\":\"{id}\",\"n\":1}}");
    write(&format!("{}\n{}\n{{\"_id\":\"cu", line("a"), line("b")));
    let expected = ["a", "b"].map(|id| (id.to_owned(), line(id)));
    assert_eq!(read_all(&config, &disk).unwrap(), Documents::from(expected));

    for foreign in ["{\"n\":1}", "no JSON", "{\"_id\":7}"] {
        write(&format!("{}\n{foreign}\n", line("a")));
        let outcome = read_all(&config, &disk);
        assert!(matches!(outcome, Err(ReadSinkError::Foreign { line: 2, .. })), "{outcome:?}");
    }
}
