//! An object store in memory that takes its time, fails now and then, and whose writer may die with
//! an answer under way: then the object is there, or it is not.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Fence;
use crate::rng::Rng;

/// One request in so many fails.
const FAILS_ONE_IN: u64 = 50;
const WAIT_MS_MAX: u64 = 8;

#[derive(Debug)]
pub(super) struct SimStore {
    objects: Arc<InMemory>,
    fence: Fence,
    rng: Mutex<Rng>,
    faults: Arc<AtomicU64>,
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl SimStore {
    pub fn new(objects: Arc<InMemory>, fence: Fence, rng: Rng, faults: Arc<AtomicU64>) -> SimStore {
        SimStore {
            objects,
            fence,
            rng: Mutex::new(rng),
            faults,
        }
    }

    fn draw(&self, n: u64) -> u64 {
        self.rng.lock().expect("no holder panics").below(n)
    }

    async fn pass(&self) -> Result<()> {
        let wait = self.draw(WAIT_MS_MAX);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.check()
    }

    fn check(&self) -> Result<()> {
        let failed = |what: &str| Error::Generic {
            store: "simulated",
            source: what.to_owned().into(),
        };
        if self.fence.is_closed() {
            return Err(failed("the process is gone"));
        }
        if self.draw(FAILS_ONE_IN) == 0 {
            self.faults.fetch_add(1, Ordering::Relaxed);
            return Err(failed("503"));
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        // Before or after it takes effect: who dies meanwhile does not know.
        if self.draw(2) == 0 {
            self.pass().await?;
            return self.objects.put_opts(at, payload, options).await;
        }
        self.check()?;
        let put = self.objects.put_opts(at, payload, options).await;
        self.pass().await?;
        put
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass().await?;
        self.objects.get_opts(at, options).await
    }

    async fn get_range(&self, at: &Path, range: Range<u64>) -> Result<Bytes> {
        self.pass().await?;
        self.objects.get_range(at, range).await
    }

    async fn delete(&self, at: &Path) -> Result<()> {
        self.pass().await?;
        self.objects.delete(at).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass().await?;
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.pass().await?;
        self.objects.copy(from, to).await
    }

    async fn copy_if_not_exists(&self, from: &Path, to: &Path) -> Result<()> {
        self.pass().await?;
        self.objects.copy_if_not_exists(from, to).await
    }
}
