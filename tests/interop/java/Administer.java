import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/**
 * What an operator does with the Java admin client, each step checked. GROUPS must exist and be empty.
 *
 * usage: Administer BOOTSTRAP GROUP...
 */
public class Administer {
    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("client.id", "java-admin");
        config.put("request.timeout.ms", "10000");
        config.put("default.api.timeout.ms", "20000");
        try (Admin admin = Admin.create(config)) {
            check("one node", admin.describeCluster().nodes().get().size() == 1);
            check("a controller", admin.describeCluster().controller().get() != null);
            topics(admin);
            for (String group : List.of(args).subList(1, args.length)) {
                group(admin, group);
            }
        }
        System.out.println("admin: good");
    }

    static void topics(Admin admin) throws Exception {
        String name = "administered";
        admin.createTopics(List.of(new NewTopic(name, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "86400000")))).all().get();
        fails("a topic twice", TopicExistsException.class, admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
        fails("an unknown setting", InvalidConfigurationException.class,
            admin.createTopics(List.of(new NewTopic("never", 1, (short) 1).configs(Map.of("no.such", "1")))).all());
        check("listed", admin.listTopics().names().get().contains(name));
        TopicDescription described = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        check("three partitions", described.partitions().size() == 3);
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all().get();
        check("five partitions", admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 5);

        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        check("retention stored", config(admin, resource).get("retention.ms").value().equals("86400000"));
        Collection<AlterConfigOp> change = List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "3600000"), AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, change)).all().get();
        check("retention changed", config(admin, resource).get("retention.ms").value().equals("3600000"));
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER,
            admin.describeCluster().nodes().get().iterator().next().idString());
        check("broker settings", !config(admin, broker).entries().isEmpty());

        TopicPartition first = new TopicPartition(name, 0);
        check("empty", admin.listOffsets(Map.of(first, OffsetSpec.latest())).partitionResult(first).get().offset() == 0);
        admin.deleteTopics(List.of(name)).all().get();
        fails("a topic that is gone", UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(name)).allTopicNames());
    }

    static void group(Admin admin, String group) throws Exception {
        check(group + " listed", admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)));
        check(group + " described", admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
        check(group + " has offsets", !admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().isEmpty());
        admin.deleteConsumerGroups(Set.of(group)).all().get();
        check(group + " deleted", admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)));
    }

    static Config config(Admin admin, ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    static void check(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void fails(String what, Class<?> kind, org.apache.kafka.common.KafkaFuture<?> future) throws Exception {
        try {
            future.get();
        } catch (ExecutionException refused) {
            if (kind.isInstance(refused.getCause())) {
                return;
            }
            throw new AssertionError(what + ": " + refused.getCause());
        }
        throw new AssertionError(what + " was accepted");
    }
}
