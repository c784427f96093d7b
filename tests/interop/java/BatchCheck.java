// Reads record batches with Kafka's own classes, checks them, and prints what they say.
//
//   java -cp 'JARS/*' BatchCheck.java FILE...          prints to stdout; exit 1 on the first bad batch
//   java -cp 'JARS/*' BatchCheck.java --text FILE...   writes FILE with .bin replaced by .txt
//   java -cp 'JARS/*' BatchCheck.java --murmur2 KEY... prints Kafka's hash of each key
//
// A file holds whole batches, one after the other. The output is one line for each batch and one for
// each record; keys, values and header keys and values are in hex, `null` is null. The tests of
// uplink/batch print the same lines from their own reading of the same bytes.
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.utils.Utils;

public final class BatchCheck {
    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            System.err.println("usage: BatchCheck [--text] FILE... | --murmur2 KEY...");
            System.exit(2);
        }
        if (args[0].equals("--murmur2")) {
            for (String key : Arrays.copyOfRange(args, 1, args.length)) {
                System.out.println(key + " " + Utils.murmur2(key.getBytes(StandardCharsets.UTF_8)));
            }
            return;
        }
        boolean text = args[0].equals("--text");
        for (String name : text ? Arrays.copyOfRange(args, 1, args.length) : args) {
            try {
                String read = read(Files.readAllBytes(Path.of(name)));
                if (text) {
                    Files.writeString(Path.of(name.replaceAll("\\.bin$", "") + ".txt"), read);
                } else {
                    System.out.print(read);
                }
            } catch (RuntimeException error) {
                System.err.println(name + ": " + error);
                System.exit(1);
            }
        }
    }

    static String read(byte[] bytes) {
        StringBuilder out = new StringBuilder();
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
        int size = 0;
        for (MutableRecordBatch batch : records.batches()) {
            // Length and CRC; the iterator below checks the records' own lengths and their count.
            batch.ensureValid();
            if (batch.magic() != RecordBatch.MAGIC_VALUE_V2) {
                throw new IllegalStateException("magic " + batch.magic());
            }
            size += batch.sizeInBytes();
            out.append("batch base=").append(batch.baseOffset()).append(" last=").append(batch.lastOffset())
                .append(" epoch=").append(batch.partitionLeaderEpoch())
                .append(" codec=").append(batch.compressionType().name)
                .append(" time=").append(batch.timestampType().name)
                .append(" max=").append(batch.maxTimestamp())
                .append(" producer=").append(batch.producerId()).append('/').append(batch.producerEpoch())
                .append('/').append(batch.baseSequence())
                .append(" transactional=").append(batch.isTransactional())
                .append(" control=").append(batch.isControlBatch())
                .append(" count=").append(batch.countOrNull()).append('\n');
            int count = 0;
            for (Record record : batch) {
                record.ensureValid();
                count++;
                out.append("record ").append(record.offset()).append(' ').append(record.timestamp())
                    .append(' ').append(hex(record.key())).append(' ').append(hex(record.value()));
                for (Header header : record.headers()) {
                    out.append(' ').append(hex(ByteBuffer.wrap(header.key().getBytes(StandardCharsets.UTF_8))))
                        .append('=').append(hex(header.value() == null ? null : ByteBuffer.wrap(header.value())));
                }
                out.append('\n');
            }
            if (count != batch.countOrNull()) {
                throw new IllegalStateException(count + " records, the header says " + batch.countOrNull());
            }
        }
        if (size != bytes.length) {
            throw new IllegalStateException("batches end at byte " + size + " of " + bytes.length);
        }
        return out.toString();
    }

    static String hex(ByteBuffer bytes) {
        if (bytes == null) {
            return "null";
        }
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return "\"" + HexFormat.of().formatHex(copy) + "\"";
    }
}
