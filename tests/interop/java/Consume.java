import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic with the Java client, as one consumer or as a group, until a number of records has
 * come and then until nothing more comes for two seconds. Prints one JSON object a record.
 *
 * usage: Consume BOOTSTRAP TOPIC RECORDS MEMBERS GROUP
 */
public class Consume {
    public static void main(String[] args) throws Exception {
        int wanted = Integer.parseInt(args[2]);
        int members = Integer.parseInt(args[3]);
        AtomicInteger seen = new AtomicInteger();
        AtomicInteger assigned = new AtomicInteger();
        long deadline = System.nanoTime() + 90_000_000_000L;
        List<Thread> threads = new ArrayList<>();
        List<Throwable> failures = java.util.Collections.synchronizedList(new ArrayList<>());
        for (int member = 0; member < members; member++) {
            String id = "java-" + member;
            Thread thread = new Thread(() -> {
                try {
                    poll(args, id, wanted, members, seen, assigned, deadline);
                } catch (Throwable error) {
                    failures.add(error);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        for (Throwable failure : failures) {
            failure.printStackTrace();
        }
        if (!failures.isEmpty() || seen.get() < wanted) {
            System.err.println("Consume: " + seen.get() + " of " + wanted + " records");
            System.exit(1);
        }
    }

    /** Members wait for the whole group before they read, so that the partitions are really shared. */
    static void poll(String[] args, String id, int wanted, int members, AtomicInteger seen, AtomicInteger assigned, long deadline) {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("group.id", args[4]);
        config.put("client.id", id);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("check.crcs", "true");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            boolean counted = false;
            long quietSince = System.nanoTime();
            while (System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    print(id, record);
                    seen.incrementAndGet();
                    quietSince = System.nanoTime();
                }
                if (!counted && !consumer.assignment().isEmpty()) {
                    counted = true;
                    assigned.incrementAndGet();
                }
                Set<org.apache.kafka.common.TopicPartition> mine = consumer.assignment();
                if (seen.get() >= wanted && assigned.get() >= Math.min(members, 3) && System.nanoTime() - quietSince > 2_000_000_000L) {
                    consumer.commitSync();
                    System.err.println(id + " read " + mine);
                    return;
                }
            }
        }
    }

    static synchronized void print(String id, ConsumerRecord<byte[], byte[]> record) {
        StringBuilder line = new StringBuilder("{\"member\":\"" + id + "\",\"partition\":" + record.partition()
            + ",\"offset\":" + record.offset() + ",\"timestamp\":" + record.timestamp()
            + ",\"key\":" + hex(record.key()) + ",\"value\":" + hex(record.value()) + ",\"headers\":[");
        String comma = "";
        for (Header header : record.headers()) {
            line.append(comma).append("[").append(hex(header.key().getBytes(StandardCharsets.UTF_8))).append(",").append(hex(header.value())).append("]");
            comma = ",";
        }
        System.out.println(line.append("]}"));
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "null" : "\"" + HexFormat.of().formatHex(bytes) + "\"";
    }
}
