//! Personal data over HTTP.

use serde_json::json;

use crate::server::start;

#[tokio::test]
async fn a_text_is_analyzed_and_anonymized_as_by_presidio() {
    let server = start().await;
    let mut client = server.client().await;
    let text = "Zoë's mail is zoe@example.org, her phone +49 30 901820.";
    let reply = client.post("/analyze", json!({ "text": text, "language": "en" })).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let results = reply.json();
    let found: Vec<_> =
        results.as_array().unwrap().iter().map(|r| (&r["entity_type"], &r["start"], &r["end"])).collect();
    let expected = [(json!("EMAIL_ADDRESS"), json!(14), json!(29)), (json!("PHONE_NUMBER"), json!(41), json!(54))];
    assert_eq!(found, expected.each_ref().map(|(entity, start, end)| (entity, start, end)));

    let anonymizers = json!({ "DEFAULT": { "type": "pseudonymise" }, "PHONE_NUMBER": { "type": "mask", "chars_to_mask": 6, "from_end": true } });
    let body = json!({ "text": text, "anonymizers": anonymizers, "analyzer_results": results });
    let done = client.post("/anonymize", body).await.json();
    assert_eq!(done["text"], "Zoë's mail is <EMAIL_ADDRESS_1>, her phone +49 30 ******.");
    assert_eq!(done["pseudonyms"], json!({ "<EMAIL_ADDRESS_1>": "zoe@example.org" }));
    assert_eq!((&done["items"][0]["operator"], &done["items"][0]["start"]), (&json!("mask"), &json!(43)));

    let many =
        client.post("/analyze", json!({ "text": ["nothing", "10.0.0.1"], "entities": ["IP_ADDRESS"] })).await.json();
    assert_eq!((many[0].as_array().unwrap().len(), &many[1][0]["entity_type"]), (0, &json!("IP_ADDRESS")));
    let entities = client.get("/supportedentities").await.json();
    assert!(entities.as_array().unwrap().contains(&json!("IBAN_CODE")), "{entities}");
}

#[tokio::test]
async fn faults_name_the_field() {
    let server = start().await;
    let mut client = server.client().await;
    let result = json!([{ "start": 0, "end": 5, "entity_type": "X" }]);
    for (path, body, param) in [
        ("/analyze", json!({}), Some("text")),
        ("/analyze", json!({ "text": 5 }), Some("text")),
        ("/analyze", json!({ "text": "a", "entities": ["NAMES"] }), Some("entities[0]")),
        ("/analyze", json!({ "text": vec!["a"; 5_000] }), Some("text")),
        ("/analyze", json!({ "text": "a@b.io ".repeat(70_000) }), Some("text")),
        ("/anonymize", json!({ "text": "a" }), None),
        ("/anonymize", json!({ "text": "a", "analyzer_results": result }), Some("analyzer_results[0]")),
        (
            "/anonymize",
            json!({ "text": "a", "analyzer_results": [], "anonymizers": { "X": { "type": "hash" } } }),
            Some("anonymizers.X.salt"),
        ),
    ] {
        let (status, code, blamed, message) = client.post(path, &body).await.error();
        assert_eq!(status, 400, "{path}: {message}");
        if param.is_some() {
            assert_eq!((&*code, blamed.as_deref()), ("invalid_value", param), "{message}");
        }
    }
    assert_eq!(client.get("/analyze").await.error().0, 405);
}
