import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/**
 * Uses a broker with Eclipse Paho as people do, and prints "ok WHAT" for each part that worked.
 *
 * usage: Use 3|5 URL     URL: tcp://, ssl://, ws:// or wss://HOST:PORT (trust: -Djavax.net.ssl.trustStore)
 *
 * A session that outlives its connection, retained messages, a will, a shared subscription.
 */
public class Use {
    /** A message as it came. */
    record Message(String topic, String payload, int qos, boolean retained) {}

    /** A connected client of either library. */
    interface Client {
        boolean sessionPresent();
        BlockingQueue<Message> messages();
        void subscribe(String filter, int qos) throws Exception;
        void publish(String topic, String payload, int qos, boolean retain) throws Exception;
        void leave() throws Exception;
        /** Closes the socket and says nothing. */
        void vanish() throws Exception;
    }

    /** Connects. will: a topic, or null. */
    interface Library {
        Client connect(String url, String id, boolean clean, String will) throws Exception;
    }

    static final long PATIENCE_S = 30;
    static Library library;
    static String url, run;

    public static void main(String[] args) throws Exception {
        java.util.logging.LogManager.getLogManager().reset();
        library = args[0].equals("5") ? new Paho5() : new Paho3();
        url = args[1];
        run = "use/java-" + args[0] + "-" + url.split(":")[0];
        session();
        retained();
        // Paho 5 leaves a TLS socket open when it is told to vanish, whatever the broker.
        if (!args[0].equals("5") || url.startsWith("tcp") || url.startsWith("ws:")) {
            will();
        }
        shared();
        System.exit(0);
    }

    static Client connect(String name, boolean clean) throws Exception {
        return library.connect(url, run + "/" + name, clean, null);
    }

    static void session() throws Exception {
        Client other = connect("session-publisher", true);
        Client sleeper = connect("session", false);
        check(!sleeper.sessionPresent(), "no session yet");
        sleeper.subscribe(run + "/session/#", 2);
        sleeper.leave();
        for (int n = 0; n < 40; n++) {
            other.publish(run + "/session/" + n % 3, "" + n, 1 + n % 2, false);
        }
        sleeper = connect("session", false);
        check(sleeper.sessionPresent(), "the session is there");
        List<Message> got = get(sleeper, 40);
        for (int qos : new int[] {1, 2}) {
            List<Integer> came = got.stream().filter(m -> m.qos() == qos).map(m -> Integer.parseInt(m.payload())).toList();
            List<Integer> want = IntStream.range(0, 40).filter(n -> 1 + n % 2 == qos).boxed().toList();
            check(came.equals(want), "QoS " + qos + ": " + came);
        }
        sleeper.leave();
        sleeper = connect("session", true);
        check(!sleeper.sessionPresent(), "a clean session is new");
        get(sleeper, 0);
        sleeper.leave();
        other.leave();
        ok("a session outlives its connection, its messages come once and in order");
    }

    static void retained() throws Exception {
        Client writer = connect("retained-writer", true);
        for (int n = 0; n < 5; n++) {
            writer.publish(run + "/state/é" + n, "first", 1, true);
            writer.publish(run + "/state/é" + n, "state " + n, 1, true);
        }
        writer.publish(run + "/state/é4", "", 1, false);
        writer.publish(run + "/state/é3", "", 1, true);
        Client reader = connect("retained-reader", true);
        reader.subscribe(run + "/state/+", 1);
        List<String> got = get(reader, 4).stream().map(m -> m.topic() + m.payload() + m.retained()).sorted().toList();
        List<String> want = IntStream.of(0, 1, 2, 4).mapToObj(n -> run + "/state/é" + n + "state " + n + "true").toList();
        check(got.equals(want), "retained: " + got);
        for (int n = 0; n < 5; n++) {
            writer.publish(run + "/state/é" + n, "", 1, true);
        }
        writer.leave();
        reader.leave();
        ok("retained messages: the last one, deleted by an empty retained one alone");
    }

    static void will() throws Exception {
        Client watcher = connect("will-watcher", true);
        watcher.subscribe(run + "/will", 1);
        library.connect(url, run + "/will-client", true, run + "/will").leave();
        library.connect(url, run + "/will-client", true, run + "/will").vanish();
        List<Message> got = get(watcher, 1);
        check(got.get(0).payload().equals("gone"), "will: " + got);
        watcher.leave();
        ok("a will goes out when a client is lost, not when it leaves");
    }

    static void shared() throws Exception {
        List<Client> members = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            Client member = connect("member-" + n, true);
            member.subscribe("$share/workers/" + run + "/jobs/#", 1);
            members.add(member);
        }
        Client publisher = connect("jobs", true);
        for (int n = 0; n < 30; n++) {
            publisher.publish(run + "/jobs/" + n, "" + n, 1, false);
        }
        List<Integer> every = new ArrayList<>();
        for (Client member : members) {
            // In turn, since nobody is slow.
            get(member, 10).forEach(m -> every.add(Integer.parseInt(m.payload())));
        }
        check(every.stream().sorted().toList().equals(IntStream.range(0, 30).boxed().toList()), "jobs: " + every);
        for (Client member : members) {
            member.leave();
        }
        publisher.leave();
        ok("a shared subscription: each job to one worker, all of them at work");
    }

    /** The next messages, and that no other follows. */
    static List<Message> get(Client client, int count) throws Exception {
        List<Message> got = new ArrayList<>();
        while (got.size() < count) {
            Message message = client.messages().poll(PATIENCE_S, TimeUnit.SECONDS);
            check(message != null, got.size() + " of " + count + " messages");
            got.add(message);
        }
        Message more = client.messages().poll(300, TimeUnit.MILLISECONDS);
        check(more == null, "one more: " + more);
        return got;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            System.err.println("not so: " + what);
            System.exit(1);
        }
    }

    static void ok(String what) {
        System.out.println("ok " + what);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static BlockingQueue<Message> queue() {
        return new LinkedBlockingQueue<>();
    }
}
