import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Produces with the Java client as it comes (idempotent, acks=all), every codec, and with acks 0 and
 * 1. Prints one JSON object per record. A transactional id must be refused.
 *
 * usage: Produce BOOTSTRAP TOPIC RECORDS
 */
public class Produce {
    public static void main(String[] args) throws Exception {
        int records = Integer.parseInt(args[2]);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            send(args, records, codec, "all", true);
        }
        send(args, records, "none", "1", false);
        send(args, records, "zstd", "0", false);
        Properties config = config(args[0], "none", "all", true);
        config.put("transactional.id", "java");
        config.put("max.block.ms", "10000");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            System.err.println("a transactional id was accepted");
            System.exit(1);
        } catch (KafkaException refused) {
            System.err.println("transactional id: " + refused);
        }
    }

    static Properties config(String bootstrap, String codec, String acks, boolean idempotent) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("client.id", "java-producer");
        config.put("compression.type", codec);
        config.put("acks", acks);
        config.put("enable.idempotence", String.valueOf(idempotent));
        config.put("linger.ms", "20");
        return config;
    }

    static void send(String[] args, int records, String codec, String acks, boolean idempotent) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(config(args[0], codec, acks, idempotent), new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < records; n++) {
                byte[] key = ("java-" + codec + "-" + acks + "-" + n % 7).getBytes(StandardCharsets.UTF_8);
                byte[] value = ("java " + codec + " " + n + " ").repeat(5).getBytes(StandardCharsets.UTF_8);
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(args[1], key, value);
                record.headers().add("h", new byte[] {(byte) 0xff, (byte) 0xfe});
                sent.add(producer.send(record));
                System.out.println("{\"topic\":\"" + HexFormat.of().formatHex(key) + "\",\"value\":\"" + HexFormat.of().formatHex(value)
                    + "\",\"headers\":[[\"68\",\"fffe\"]]}");
            }
            producer.flush();
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
        }
    }
}
