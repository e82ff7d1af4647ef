//! Maps over heap memory: what is refused, seen and told.

use super::*;

#[derive(Debug)]
struct Nobody;
impl MapObserver for Nobody {}

fn writer(published: &[u8], capacity: usize) -> MapWriter {
    MapWriter::on_heap(published, capacity, Arc::new(Nobody)).unwrap()
}

#[test]
fn what_is_stored_is_invisible_until_it_is_published() {
    let mut writer = writer(b"old", 10);
    writer.store(3, b"new").unwrap();
    assert_eq!(writer.map().published(), 3);
    assert!(writer.map().slice(0..4).is_none());
    writer.publish(6);
    assert_eq!(writer.map().slice(0..6).unwrap(), b"oldnew");
}

#[test]
fn a_stamp_may_be_stored_over_what_is_not_published() {
    let mut writer = writer(b"", 10);
    writer.store(0, b"....body").unwrap();
    writer.store(0, b"head").unwrap();
    writer.publish(8);
    assert_eq!(writer.map().bytes(0..8).unwrap(), "headbody");
}

#[test]
fn a_store_outside_of_the_writers_own_part_is_refused() {
    let mut writer = writer(b"old", 10);
    let cases =
        [(2, 1, "published"), (4, 1, "a gap"), (3, 8, "beyond the capacity"), (usize::MAX, 2, "overflow")];
    for (position, len, why) in cases {
        let error = writer.store(position, &vec![1; len]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{why}");
    }
    writer.store(3, &[1; 7]).unwrap();
}

#[test]
#[should_panic(expected = "not within 3..=4")]
fn what_was_not_stored_cannot_be_published() {
    let mut writer = writer(b"old", 10);
    writer.store(3, b"x").unwrap();
    writer.publish(5);
}

#[test]
#[should_panic(expected = "not within 3..=3")]
fn what_is_published_stays_published() {
    writer(b"old", 10).publish(2);
}

#[test]
#[allow(clippy::reversed_empty_ranges, reason = "they must be refused, too")]
fn only_published_ranges_can_be_seen() {
    let map = writer(b"0123456789", 20).map().clone();
    for range in [0..0, 0..10, 10..10, 3..7] {
        let expected = &b"0123456789"[range.clone()];
        assert_eq!(map.slice(range.clone()).unwrap(), expected);
        assert_eq!(map.bytes(range).unwrap(), expected);
    }
    for range in [0..11, 11..11, 7..3, usize::MAX..usize::MAX, 0..usize::MAX, 5..0] {
        assert!(map.slice(range.clone()).is_none(), "{range:?}");
        assert!(map.bytes(range.clone()).is_none(), "{range:?}");
    }
}

#[test]
fn bytes_keep_the_map_alive() {
    let writer = writer(b"still here", 20);
    let bytes = writer.map().bytes(6..10).unwrap();
    drop(writer);
    assert_eq!(bytes, "here");
    assert_eq!(bytes.slice(1..3), "er");
}

#[test]
fn the_observer_hears_of_every_store_sync_and_populate() {
    #[derive(Debug, Default)]
    struct Heard(parking_lot::Mutex<Vec<String>>);
    impl MapObserver for Heard {
        fn stored(&self, position: usize, bytes: &[u8]) {
            self.0.lock().push(format!("stored {} at {position}", bytes.len()));
        }
        fn sync(&self, range: Range<usize>) -> io::Result<()> {
            self.0.lock().push(format!("sync {range:?}"));
            Ok(())
        }
        fn populate(&self, _range: Range<usize>) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let heard = Arc::new(Heard::default());
    let mut writer = MapWriter::on_heap(b"", 10, heard.clone()).unwrap();
    writer.store(0, b"abc").unwrap();
    writer.map().sync(0..3).unwrap();
    writer.map().sync(3..3).unwrap();
    assert_eq!(writer.map().populate(3..10, Pages::Small).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(writer.map().sync(0..11).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(*heard.0.lock(), ["stored 3 at 0", "sync 0..3"]);
}

#[test]
fn readers_never_see_a_byte_change_while_the_writer_stores_and_publishes() {
    let rounds = if cfg!(miri) { 30 } else { 2_000 };
    let mut writer = writer(b"", 16 * rounds);
    let map = writer.map().clone();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let map = map.clone();
            scope.spawn(move || {
                while map.published() < 16 * rounds {
                    let bytes = map.bytes(0..map.published()).unwrap();
                    let before = bytes.to_vec();
                    std::thread::yield_now();
                    assert_eq!(bytes, before);
                    assert!(bytes.iter().enumerate().all(|(at, &byte)| byte == (at / 16) as u8));
                }
            });
        }
        for round in 0..rounds {
            let position = 16 * round;
            writer.store(position, b"not to be seen..").unwrap();
            writer.store(position, &[round as u8; 16]).unwrap();
            writer.publish(position + 16);
        }
    });
}
