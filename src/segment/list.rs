//! Where in the list of a log's segments an offset is. Each segment ends where the next one begins.

use std::sync::Arc;

use super::Segment;
use crate::types::Offset;

/// The index of the first segment that begins behind `offset`.
pub(crate) fn first_behind(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments.partition_point(|segment| segment.base_offset() <= offset)
}

/// The segment that `offset` lies in; the last one for what lies behind the log. `None` in front of all segments.
pub(crate) fn segment_at(segments: &[Arc<Segment>], offset: Offset) -> Option<&Arc<Segment>> {
    segments[..first_behind(segments, offset)].last()
}

/// The segment that `offset` lies in, and those behind it; all of them where it lies in front of them.
pub(crate) fn segments_from(segments: &[Arc<Segment>], offset: Offset) -> &[Arc<Segment>] {
    &segments[first_behind(segments, offset).saturating_sub(1)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{IoMode, RealDisk};
    use crate::segment::{IndexOptions, LogFile};

    #[test]
    fn an_offset_lies_in_the_last_segment_that_does_not_begin_behind_it() {
        let segment = |base| {
            let file = LogFile::new(Arc::new(RealDisk), IoMode::Mapped, "never opened".into(), 0, 0);
            let options = IndexOptions { interval_bytes: 4096, max_bytes: 4096 };
            Arc::new(Segment::sealed(Offset(base), file, options))
        };
        let list = [10, 20, 30].map(segment);
        let bases = |segments: &[Arc<Segment>]| {
            segments.iter().map(|segment| segment.base_offset().0).collect::<Vec<_>>()
        };
        let cases: [(i64, Option<i64>, &[i64]); 6] = [
            (9, None, &[10, 20, 30]),
            (10, Some(10), &[10, 20, 30]),
            (19, Some(10), &[10, 20, 30]),
            (20, Some(20), &[20, 30]),
            (30, Some(30), &[30]),
            (99, Some(30), &[30]),
        ];
        for (offset, at, from) in cases {
            let offset = Offset(offset);
            assert_eq!(segment_at(&list, offset).map(|segment| segment.base_offset().0), at, "{offset:?}");
            assert_eq!(bases(segments_from(&list, offset)), from, "{offset:?}");
        }
        assert!(segment_at(&[], Offset(0)).is_none());
        assert!(segments_from(&[], Offset(0)).is_empty());
    }
}
