import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Drives Apache Kafka's Java client; orders and printed lines are described in ../README.md. */
class Client {
    static final Duration POLL = Duration.ofMillis(200);
    static String address, topic, choice;

    public static void main(String[] arguments) throws Exception {
        address = arguments[1];
        topic = arguments[2];
        choice = arguments.length > 3 ? arguments[3] : "";
        switch (arguments[0]) {
            case "admin" -> admin();
            case "produce" -> produce();
            case "consume" -> consume();
            case "transact" -> transact();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    static void say(Object... words) {
        var line = new StringBuilder();
        for (var word : words) line.append(line.isEmpty() ? "" : " ").append(word);
        System.out.println(line);
    }

    static void admin() throws Exception {
        try (var client = Admin.create(Map.of("bootstrap.servers", address))) {
            var gone = topic + "-gone";
            client.createTopics(List.of(
                new NewTopic(topic, 4, (short) 1), new NewTopic(gone, 1, (short) 1))).all().get();
            var described = client.describeTopics(List.of(topic)).allTopicNames().get();
            say("partitions", described.get(topic).partitions().size());
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var configs = client.describeConfigs(List.of(resource)).all().get().get(resource);
            for (var entry : configs.entries()) say("config", entry.name() + "=" + entry.value());
            client.deleteTopics(List.of(gone)).all().get();
            say("topics", String.join(" ", client.listTopics().names().get()));
        }
    }

    static KafkaProducer<String, String> producer(Map<String, Object> more) {
        var settings = new HashMap<String, Object>(more);
        settings.put("bootstrap.servers", address);
        settings.put("linger.ms", 5);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static void produce() throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (var producer = producer(Map.of("compression.type", choice))) {
            for (var line = lines.readLine(); line != null; line = lines.readLine()) {
                var value = line;
                producer.send(new ProducerRecord<>(topic, value, value), (place, refused) -> {
                    if (refused == null) {
                        say("acked", place.partition(), place.offset(), value);
                    } else {
                        refused.printStackTrace();
                        Runtime.getRuntime().halt(1);
                    }
                });
            }
        }
    }

    static KafkaConsumer<String, String> consumer() {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", address, "group.id", choice, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "isolation.level", "read_committed",
            "heartbeat.interval.ms", 500);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static volatile boolean leave;
    static final Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>();

    /** What a rebalance takes away is for its next owner to commit. */
    static class Forget implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
            pending.keySet().removeAll(revoked);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {}
    }

    static void consume() {
        var input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException ended) {
                System.err.println(ended);
            }
            leave = true;
        });
        input.setDaemon(true);
        input.start();
        try (var consumer = consumer()) {
            consumer.subscribe(List.of(topic), new Forget());
            while (!leave || !pending.isEmpty()) {
                for (var read : consumer.poll(POLL)) {
                    say("record", read.partition(), read.offset(), read.value());
                    pending.put(new TopicPartition(topic, read.partition()),
                        new OffsetAndMetadata(read.offset() + 1));
                }
                try {
                    if (!pending.isEmpty()) consumer.commitSync(pending);
                    pending.forEach((at, next) -> say("committed", at.partition(), next.offset()));
                    pending.clear();
                } catch (KafkaException error) {
                    // A rebalance, or the broker is away: the next commit has it.
                    System.err.println(error);
                }
            }
        }
    }

    static void send(KafkaProducer<String, String> producer, String name) {
        for (var number = 0; number < 10; number++) {
            var value = name + "-" + number;
            producer.send(new ProducerRecord<>(topic, value, value));
        }
    }

    static void transact() {
        try (var producer = producer(Map.of("transactional.id", topic, "max.block.ms", 10000));
             var consumer = consumer()) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, "kept");
            producer.commitTransaction();
            producer.beginTransaction();
            send(producer, "dropped");
            producer.flush();
            producer.abortTransaction();
            producer.beginTransaction();
            send(producer, "moved");
            var places = new HashMap<TopicPartition, OffsetAndMetadata>();
            for (var number = 0; number < 4; number++) {
                places.put(new TopicPartition(topic, number), new OffsetAndMetadata(1));
            }
            producer.sendOffsetsToTransaction(places, consumer.groupMetadata());
            producer.commitTransaction();
            places.forEach((at, next) -> say("committed", at.partition(), next.offset()));
        }
    }
}
