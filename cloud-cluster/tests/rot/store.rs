//! An object store in memory whose requests fail where a test says so.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Says whether the request with this number, about this object, fails.
type Fails = Box<dyn Fn(u64, &str) -> bool + Send>;

/// Which requests fail.
#[derive(Default)]
pub struct Faults {
    inner: Mutex<(u64, Option<Fails>)>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl Faults {
    /// From now on, counted from 0.
    pub fn set(&self, fails: impl Fn(u64, &str) -> bool + Send + 'static) {
        *self.inner.lock().unwrap() = (0, Some(Box::new(fails)));
    }

    /// Requests since [`Faults::set`].
    pub fn asked(&self) -> u64 {
        self.inner.lock().unwrap().0
    }

    fn check(&self, object: &str) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        let number = inner.0;
        inner.0 += 1;
        if inner.1.as_ref().is_some_and(|fails| fails(number, object)) {
            let source = "503 Slow Down".into();
            let store = "faulty";
            return Err(Error::Generic { store, source });
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Faulty {
    pub objects: Arc<InMemory>,
    pub faults: Arc<Faults>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.faults.check(at.as_ref())?;
        self.objects.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.check(at.as_ref())?;
        self.objects.get_opts(at, options).await
    }

    async fn get_range(&self, at: &Path, range: Range<u64>) -> Result<Bytes> {
        self.faults.check(at.as_ref())?;
        self.objects.get_range(at, range).await
    }

    async fn delete(&self, at: &Path) -> Result<()> {
        self.faults.check(at.as_ref())?;
        self.objects.delete(at).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.check(prefix.map_or("", AsRef::as_ref))?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.objects.copy(from, to).await
    }

    async fn copy_if_not_exists(&self, from: &Path, to: &Path) -> Result<()> {
        self.objects.copy_if_not_exists(from, to).await
    }
}
