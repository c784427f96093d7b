//! The page for people: three files without anything from elsewhere, so that it works where there is
//! no internet, and so that its policy needs no exception for scripts inside the document.

use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};

const HTML: &str = include_str!("page/status.html");
const CSS: &str = include_str!("page/status.css");
const JS: &str = include_str!("page/status.js");

pub(super) async fn html() -> Html<&'static str> {
    Html(HTML)
}

pub(super) async fn css() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], CSS)
}

pub(super) async fn js() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], JS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole page crosses slow links and lies in the binary.
    #[test]
    fn the_page_is_small_and_has_nothing_from_elsewhere() {
        assert!(HTML.len() + CSS.len() + JS.len() < 20_000);
        for text in [HTML, CSS, JS] {
            assert!(!text.contains("://"), "an address of somewhere else");
        }
    }

    /// Whatever a client calls itself is text: no way from text to markup is used.
    #[test]
    fn nothing_is_parsed_as_markup() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
        ] {
            assert!(!JS.contains(way), "{way}");
        }
        assert!(!HTML.contains("<script>") && !HTML.contains(" style=") && !HTML.contains(" on"));
    }
}
