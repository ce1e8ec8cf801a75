/// As in Apache Kafka.
const CHARACTERS_MAX: usize = 249;

/// Refuses a name that no cluster takes for a topic, saying what one looks like: asked for later,
/// it would be refused over and over.
///
/// ```
/// assert!(lossproof_client::check_topic_name("news-2.de").is_ok());
/// assert!(lossproof_client::check_topic_name("bad topic!").is_err());
/// ```
pub fn check_topic_name(name: &str) -> Result<(), &'static str> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = (1..=CHARACTERS_MAX).contains(&name.len())
        && name.chars().all(is_legal)
        && !matches!(name, "." | "..");
    is_name.then_some(()).ok_or("a topic's name has letters, digits, '.', '_' and '-', 249 at most")
}
