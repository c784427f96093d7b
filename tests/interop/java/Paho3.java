import java.util.concurrent.BlockingQueue;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Eclipse Paho for MQTT 3.1.1. */
class Paho3 implements Use.Library {
    public Use.Client connect(String url, String id, boolean clean, String will) throws Exception {
        MqttAsyncClient client = new MqttAsyncClient(url, id, new MemoryPersistence());
        BlockingQueue<Use.Message> messages = Use.queue();
        client.setCallback(new MqttCallback() {
            public void connectionLost(Throwable cause) {}
            public void deliveryComplete(IMqttDeliveryToken token) {}
            public void messageArrived(String topic, MqttMessage m) {
                messages.add(new Use.Message(topic, new String(m.getPayload()), m.getQos(), m.isRetained()));
            }
        });
        MqttConnectOptions options = new MqttConnectOptions();
        options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setCleanSession(clean);
        if (will != null) {
            options.setWill(will, Use.bytes("gone"), 1, false);
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
                Use.check(token.getGrantedQos()[0] == qos, "granted " + token.getGrantedQos()[0]);
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
