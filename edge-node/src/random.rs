//! Fresh randomness from the system.

use std::io;

/// Numbers that [`number`] makes.
pub trait Random: Default {
    /// From bytes of this type's size.
    fn fill(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()>;
}

macro_rules! random {
    ($($number:ty),*) => {$(
        impl Random for $number {
            fn fill(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
                let mut bytes = [0; size_of::<$number>()];
                fill(&mut bytes)?;
                *self = <$number>::from_le_bytes(bytes);
                Ok(())
            }
        }
    )*};
}

random!(u64, u128);

/// A random number.
pub fn number<N: Random>() -> io::Result<N> {
    let mut number = N::default();
    number.fill(|bytes| getrandom::fill(bytes).map_err(|e| io::Error::other(e.to_string())))?;
    Ok(number)
}
