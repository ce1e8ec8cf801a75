//! jq expressions for the steps `filter` and `map`, compiled once.

use std::fmt;

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, data, unwrap_valr};
use jaq_json::Val;
use thiserror::Error;

use crate::depth::bounded_fromjson;
use crate::document::{Document, DocumentError};

type Data = data::JustLut<Val>;

/// One compiled expression.
pub struct Expression {
    filter: Filter<Data>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").finish_non_exhaustive()
    }
}

#[derive(Debug, Error)]
#[error("is no jq expression: {detail}")]
pub struct CompileError {
    pub detail: String,
}

/// Why an expression gave no usable result for one record.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvaluateError {
    #[error("the expression failed: {detail}")]
    Failed { detail: String },
    #[error("the expression gave {count} results, one is needed")]
    ResultCount { count: &'static str },
    #[error("the expression's result: {source}")]
    NoDocument {
        #[source]
        source: DocumentError,
    },
}

impl Expression {
    pub fn compile(code: &str) -> Result<Self, CompileError> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let json = jaq_json::funs().filter(|(name, ..)| *name != "fromjson");
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(json);
        let functions = functions.chain([bounded_fromjson()]);
        let loader = Loader::new(definitions);
        let arena = Arena::default();
        let modules = loader
            .load(&arena, File { code, path: () })
            .map_err(|errors| CompileError { detail: format_errors(&errors) })?;
        let filter = Compiler::default()
            .with_funs(functions)
            .compile(modules)
            .map_err(|errors| CompileError { detail: format_errors(&errors) })?;
        Ok(Self { filter })
    }

    /// Is the one result neither `false` nor `null`?
    pub fn is_true(&self, document: &Document) -> Result<bool, EvaluateError> {
        let value = self.single(document)?;
        Ok(!matches!(value, Val::Null | Val::Bool(false)))
    }

    /// The one result, which must be an object.
    pub fn map(&self, document: &Document) -> Result<Document, EvaluateError> {
        let text = self.single(document)?.to_string();
        Document::parse(text.as_bytes()).map_err(|source| EvaluateError::NoDocument { source })
    }

    fn single(&self, document: &Document) -> Result<Val, EvaluateError> {
        let failed = |detail: String| EvaluateError::Failed { detail };
        let input = jaq_json::read::parse_single(document.to_json().as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let context = Ctx::<Data>::new(&self.filter.lut, Vars::new([]));
        let mut results = self.filter.id.run((context, input)).map(unwrap_valr);
        match (results.next(), results.next()) {
            (Some(Ok(value)), None) => Ok(value),
            (Some(Err(error)), _) | (_, Some(Err(error))) => Err(failed(error.to_string())),
            (None, _) => Err(EvaluateError::ResultCount { count: "no" }),
            (Some(Ok(_)), Some(Ok(_))) => Err(EvaluateError::ResultCount { count: "several" }),
        }
    }
}

fn format_errors<S: fmt::Debug, P, E: fmt::Debug>(errors: &[(File<S, P>, E)]) -> String {
    errors.iter().map(|(_, error)| format!("{error:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn filters_and_maps() {
        let english = Expression::compile(r#".lang == "en" and (.text | length) > 2"#).unwrap();
        assert!(english.is_true(&document(r#"{"lang":"en","text":"abc"}"#)).unwrap());
        assert!(!english.is_true(&document(r#"{"lang":"de","text":"abc"}"#)).unwrap());
        let map = Expression::compile("{id, both: (.a + .b)}").unwrap();
        let mapped = map.map(&document(r#"{"id":"x","a":1,"b":2}"#)).unwrap();
        assert_eq!(mapped.to_json(), r#"{"id":"x","both":3}"#);
    }

    #[test]
    fn anything_but_one_result_is_an_error() {
        let record = document(r#"{"a":[1,2]}"#);
        let evaluate = |code: &str| Expression::compile(code).unwrap().map(&record);
        assert!(matches!(evaluate("empty"), Err(EvaluateError::ResultCount { .. })));
        assert!(matches!(evaluate(".a[]"), Err(EvaluateError::ResultCount { .. })));
        assert!(matches!(evaluate(".a"), Err(EvaluateError::NoDocument { .. })));
        assert!(matches!(evaluate("{n: nan}"), Err(EvaluateError::NoDocument { .. })));
        assert!(matches!(evaluate(".a.b"), Err(EvaluateError::Failed { .. })));
        assert!(Expression::compile(".a |").is_err());
        assert!(Expression::compile("nosuchfunction").is_err());
    }

    #[test]
    fn shared_by_all_workers() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Expression>();
    }
}
