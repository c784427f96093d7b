import java.util.concurrent.BlockingQueue;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** Eclipse Paho for MQTT 5. */
class Paho5 implements Use.Library {
    public Use.Client connect(String url, String id, boolean clean, String will) throws Exception {
        MqttAsyncClient client = new MqttAsyncClient(url, id, new MemoryPersistence());
        BlockingQueue<Use.Message> messages = Use.queue();
        client.setCallback(new MqttCallback() {
            public void disconnected(MqttDisconnectResponse response) {}
            public void mqttErrorOccurred(MqttException exception) {}
            public void deliveryComplete(IMqttToken token) {}
            public void connectComplete(boolean reconnect, String uri) {}
            public void authPacketArrived(int reason, MqttProperties properties) {}
            public void messageArrived(String topic, MqttMessage m) {
                messages.add(new Use.Message(topic, new String(m.getPayload()), m.getQos(), m.isRetained()));
            }
        });
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setCleanStart(clean);
        options.setSessionExpiryInterval(clean ? 0L : 300L);
        if (will != null) {
            options.setWill(will, new MqttMessage(Use.bytes("gone"), 1, false, null));
        }
        IMqttToken connected = client.connect(options);
        connected.waitForCompletion(Use.PATIENCE_S * 1000);
        boolean present = connected.getSessionPresent();
        return new Use.Client() {
            public boolean sessionPresent() {
                return present;
            }
            public BlockingQueue<Use.Message> messages() {
                return messages;
            }
            public void subscribe(String filter, int qos) throws Exception {
                IMqttToken token = client.subscribe(filter, qos);
                token.waitForCompletion(Use.PATIENCE_S * 1000);
                Use.check(token.getReasonCodes()[0] == qos, "granted " + token.getReasonCodes()[0]);
            }
            public void publish(String topic, String payload, int qos, boolean retain) throws Exception {
                client.publish(topic, Use.bytes(payload), qos, retain).waitForCompletion(Use.PATIENCE_S * 1000);
            }
            public void leave() throws Exception {
                client.disconnect().waitForCompletion(Use.PATIENCE_S * 1000);
                client.close();
            }
            public void vanish() throws Exception {
                client.disconnectForcibly(0, 0, false);
                client.close(true);
            }
        };
    }
}
