// Drives sarama; orders and printed lines are described in ../README.md.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4,
	"zstd": sarama.CompressionZSTD,
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	return config
}

func producerSettings() *sarama.Config {
	config := settings()
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 100
	config.Net.MaxOpenRequests = 1
	return config
}

func admin(address, topic, _ string) {
	client := must(sarama.NewClusterAdmin([]string{address}, settings()))
	gone := topic + "-gone"
	four := &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}
	check(client.CreateTopic(topic, four, false))
	one := &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}
	check(client.CreateTopic(gone, one, false))
	described := must(client.DescribeTopics([]string{topic}))
	fmt.Println("partitions", len(described[0].Partitions))
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}
	for _, entry := range must(client.DescribeConfig(resource)) {
		fmt.Printf("config %s=%s\n", entry.Name, entry.Value)
	}
	check(client.DeleteTopic(gone))
	fmt.Print("topics")
	for name := range must(client.ListTopics()) {
		fmt.Print(" ", name)
	}
	fmt.Println()
	check(client.Close())
}

func produce(address, topic, codec string) {
	config := producerSettings()
	config.Producer.Compression = codecs[codec]
	producer := must(sarama.NewAsyncProducer([]string{address}, config))
	// Closing it refuses what waits for another try: only when all are answered.
	var waiting sync.WaitGroup
	waiting.Add(1)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			value := sarama.StringEncoder(lines.Text())
			waiting.Add(1)
			producer.Input() <- &sarama.ProducerMessage{Topic: topic, Key: value, Value: value}
		}
		waiting.Done()
		waiting.Wait()
		producer.AsyncClose()
	}()
	go func() {
		for refused := range producer.Errors() {
			log.Fatal(refused)
		}
	}()
	for message := range producer.Successes() {
		fmt.Println("acked", message.Partition, message.Offset, message.Value)
		waiting.Done()
	}
}

type member struct {
	admin sarama.ClusterAdmin
	group string
}

func (member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// Commits what it has printed, until the session ends and once more then.
func (m member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	defer m.commit(session, claim)
	marked := false
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			fmt.Println("record", message.Partition, message.Offset, string(message.Value))
			session.MarkMessage(message, "")
			marked = true
		case <-ticks.C:
			if marked {
				m.commit(session, claim)
			}
			marked = false
		}
	}
}

// Sarama does not say how a commit went: what is committed is what the broker has then.
func (m member) commit(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
	session.Commit()
	topic, partition := claim.Topic(), claim.Partition()
	answer, err := m.admin.ListConsumerGroupOffsets(m.group, map[string][]int32{topic: {partition}})
	if err != nil {
		log.Print(err)
		return
	}
	at := answer.GetBlock(topic, partition)
	if at != nil && at.Err == sarama.ErrNoError && at.Offset >= 0 {
		fmt.Println("committed", partition, at.Offset)
	}
}

func consume(address, topic, name string) {
	config := settings()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	group := must(sarama.NewConsumerGroup([]string{address}, name, config))
	admin := must(sarama.NewClusterAdmin([]string{address}, settings()))
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	for ctx.Err() == nil {
		err := group.Consume(ctx, []string{topic}, member{admin, name})
		if err != nil && !errors.Is(err, context.Canceled) {
			// The broker is away: once more.
			log.Print(err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	check(group.Close())
	check(admin.Close())
}

func transact(address, topic, group string) {
	config := producerSettings()
	config.Producer.Transaction.ID = topic
	config.Producer.Transaction.Retry.Max = 3
	producer := must(sarama.NewSyncProducer([]string{address}, config))
	send := func(name string) {
		check(producer.BeginTxn())
		for number := range 10 {
			value := sarama.StringEncoder(fmt.Sprintf("%s-%d", name, number))
			message := &sarama.ProducerMessage{Topic: topic, Key: value, Value: value}
			_, _, err := producer.SendMessage(message)
			check(err)
		}
	}
	send("kept")
	check(producer.CommitTxn())
	send("dropped")
	check(producer.AbortTxn())
	send("moved")
	offsets := []*sarama.PartitionOffsetMetadata{}
	for partition := range int32(4) {
		offsets = append(offsets, &sarama.PartitionOffsetMetadata{Partition: partition, Offset: 1})
	}
	places := map[string][]*sarama.PartitionOffsetMetadata{topic: offsets}
	check(producer.AddOffsetsToTxn(places, group))
	check(producer.CommitTxn())
	for _, at := range offsets {
		fmt.Println("committed", at.Partition, at.Offset)
	}
	check(producer.Close())
}

func main() {
	orders := map[string]func(address, topic, choice string){
		"admin": admin, "produce": produce, "consume": consume, "transact": transact,
	}
	arguments := append(os.Args, "")
	orders[arguments[1]](arguments[2], arguments[3], arguments[4])
}
