// Writes the java-*.bin fixtures with Kafka's own classes. How to run it: README.md beside it.
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.DefaultRecordBatch;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;

public final class GoldenMake {
    static final long T0 = 1_763_800_000_000L;
    static final Header[] NONE = new Header[0];

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    static ByteBuffer wrap(String text) {
        return text == null ? null : ByteBuffer.wrap(utf8(text));
    }

    static void append(MemoryRecordsBuilder to, long offset, long timestamp, String key, String value,
                       Header... headers) {
        to.appendWithOffset(offset, timestamp, utf8(key), utf8(value), headers);
    }

    /** The corner cases, then twenty readings so that there is something to compress. */
    static void appendAll(MemoryRecordsBuilder to, long base) {
        append(to, base, T0, "temp-07", "21.43", header("edge", utf8("gw-1")));
        append(to, base + 1, T0 + 1, null, null);
        append(to, base + 2, T0 + 2, "", "", header("", null), header("dup", utf8("a")),
               header("dup", utf8("b")), header("bin", new byte[] {0, (byte) 0xff, (byte) 0x80}));
        append(to, base + 3, T0 - 5000, "schlüssel/ключ", "earlier than the first");
        append(to, base + 4, T0 + 70_000_000_000L, "far", "x".repeat(300));
        for (int i = 5; i < 25; i++) {
            append(to, base + i, T0 + 50L * i, "site/3/temp-" + i % 7, "{\"ts\":" + (T0 + 50L * i)
                   + ",\"sensor\":\"temp-0" + i % 7 + "\",\"value\":21." + i + ",\"unit\":\"C\"}",
                   header("edge", utf8("gw-1")));
        }
    }

    static MemoryRecordsBuilder builder(CompressionType type, TimestampType time, long base, long now,
                                        long producer, short epoch, int sequence, boolean transactional,
                                        int leaderEpoch, long deleteHorizon) {
        org.apache.kafka.common.utils.ByteBufferOutputStream out =
            new org.apache.kafka.common.utils.ByteBufferOutputStream(1 << 16);
        return new MemoryRecordsBuilder(out, RecordBatch.MAGIC_VALUE_V2, Compression.of(type).build(), time,
            base, now, producer, epoch, sequence, transactional, false, leaderEpoch, 1 << 16, deleteHorizon);
    }

    static MemoryRecordsBuilder plain(CompressionType type, long base) {
        return builder(type, TimestampType.CREATE_TIME, base, -1, -1, (short) -1, -1, false, -1, -1);
    }

    static void write(Path dir, String name, ByteBuffer... parts) throws Exception {
        int size = 0;
        for (ByteBuffer part : parts) size += part.remaining();
        ByteBuffer all = ByteBuffer.allocate(size);
        for (ByteBuffer part : parts) all.put(part.duplicate());
        Files.write(dir.resolve("java-" + name + ".bin"), all.array());
    }

    public static void main(String[] args) throws Exception {
        Path dir = Path.of(args[0]);
        ByteBuffer[] each = new ByteBuffer[5];
        int at = 0;
        for (CompressionType type : new CompressionType[] {CompressionType.NONE, CompressionType.GZIP,
                CompressionType.SNAPPY, CompressionType.LZ4, CompressionType.ZSTD}) {
            MemoryRecordsBuilder to = plain(type, 1000L * at);
            appendAll(to, 1000L * at);
            each[at] = to.build().buffer();
            write(dir, type.name, each[at]);
            at++;
        }
        write(dir, "several", each[0], each[4], each[0], each[4]);

        MemoryRecordsBuilder to = builder(CompressionType.ZSTD, TimestampType.CREATE_TIME, 7, -1,
            4_000_000_000L, (short) 5, Integer.MAX_VALUE - 10, false, 3, -1);
        appendAll(to, 7);
        write(dir, "idempotent", to.build().buffer());

        to = builder(CompressionType.NONE, TimestampType.CREATE_TIME, 7, -1, 77, (short) 0, 0, true, 3, -1);
        appendAll(to, 7);
        ByteBuffer marker = MemoryRecords.withEndTransactionMarker(32, T0, 3, 77, (short) 0,
            new EndTransactionMarker(ControlRecordType.COMMIT, 9)).buffer();
        write(dir, "transaction", to.build().buffer(), marker);

        to = builder(CompressionType.ZSTD, TimestampType.LOG_APPEND_TIME, 7, T0 + 12345, -1, (short) -1, -1,
            false, 3, -1);
        appendAll(to, 7);
        write(dir, "append-time", to.build().buffer());

        to = plain(CompressionType.ZSTD, 1L << 40);
        for (long hole : new long[] {0, 1, 5, 6, 100, 100_000, 2_000_000_000L}) {
            append(to, (1L << 40) + hole, T0 + hole, "k" + hole, "v" + hole, header("edge", utf8("gw-1")));
        }
        write(dir, "holes", to.build().buffer());

        to = builder(CompressionType.NONE, TimestampType.CREATE_TIME, 7, -1, -1, (short) -1, -1, false, 3,
            T0 + 99_000);
        appendAll(to, 7);
        write(dir, "delete-horizon", to.build().buffer());

        ByteBuffer empty = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        DefaultRecordBatch.writeEmptyHeader(empty, RecordBatch.MAGIC_VALUE_V2, 4, (short) 1, 9, 20, 30, 2,
            TimestampType.CREATE_TIME, T0, false, false);
        empty.flip();
        write(dir, "empty", empty);
    }
}
