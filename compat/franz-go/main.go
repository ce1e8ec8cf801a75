// Drives franz-go; orders and printed lines are described in ../README.md.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

var ctx = context.Background()

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func record(topic, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(value), Value: []byte(value)}
}

func admin(address, topic, _ string) {
	client := kadm.NewClient(must(kgo.NewClient(kgo.SeedBrokers(address))))
	gone := topic + "-gone"
	must(client.CreateTopic(ctx, 4, 1, nil, topic))
	must(client.CreateTopic(ctx, 1, 1, nil, gone))
	described := must(client.ListTopics(ctx, topic))
	fmt.Println("partitions", len(described[topic].Partitions))
	for _, resource := range must(client.DescribeTopicConfigs(ctx, topic)) {
		for _, config := range resource.Configs {
			fmt.Printf("config %s=%s\n", config.Key, config.MaybeValue())
		}
	}
	must(client.DeleteTopic(ctx, gone))
	fmt.Print("topics")
	for _, name := range must(client.ListTopics(ctx)).Names() {
		fmt.Print(" ", name)
	}
	fmt.Println()
}

func produce(address, topic, codec string) {
	client := must(kgo.NewClient(kgo.SeedBrokers(address),
		kgo.ProducerBatchCompression(codecs[codec])))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		client.Produce(ctx, record(topic, lines.Text()), func(sent *kgo.Record, err error) {
			check(err)
			fmt.Println("acked", sent.Partition, sent.Offset, string(sent.Value))
		})
	}
	check(client.Flush(ctx))
	client.Close()
}

func memberOptions(address, topic, group string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.HeartbeatInterval(500 * time.Millisecond),
	}
}

// Says how far the group is, and forgets what is committed of what was printed.
func sayCommitted(client *kgo.Client, printed map[int32]int64) {
	for _, partitions := range client.CommittedOffsets() {
		for partition, at := range partitions {
			fmt.Println("committed", partition, at.Offset)
			if printed[partition] <= at.Offset {
				delete(printed, partition)
			}
		}
	}
}

func consume(address, topic, group string) {
	options := append(memberOptions(address, topic, group),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	client := must(kgo.NewClient(options...))
	until, leave := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	// A broker that was restarted refuses a commit, and the client reads again what it had in hand.
	printed := map[int32]int64{}
	for until.Err() == nil || len(printed) > 0 {
		wait, end := context.WithTimeout(ctx, 200*time.Millisecond)
		client.PollFetches(wait).EachRecord(func(read *kgo.Record) {
			fmt.Println("record", read.Partition, read.Offset, string(read.Value))
			printed[read.Partition] = read.Offset + 1
		})
		end()
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			// A rebalance, or the broker is away: the next commit has it.
			log.Print(err)
		} else {
			sayCommitted(client, printed)
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}

func transact(address, topic, group string) {
	options := append(memberOptions(address, topic, group),
		kgo.TransactionalID(topic), kgo.AllowAutoTopicCreation())
	session := must(kgo.NewGroupTransactSession(options...))
	client := session.Client()
	send := func(name string) {
		for number := range 10 {
			sent := record(topic, fmt.Sprintf("%s-%d", name, number))
			check(client.ProduceSync(ctx, sent).FirstErr())
		}
	}
	check(client.BeginTransaction())
	send("kept")
	check(client.EndTransaction(ctx, kgo.TryCommit))
	check(client.BeginTransaction())
	send("dropped")
	check(client.EndTransaction(ctx, kgo.TryAbort))
	session.PollFetches(ctx)
	check(session.Begin())
	send("moved")
	if !must(session.End(ctx, kgo.TryCommit)) {
		log.Fatal("the transaction with the offsets was aborted")
	}
	sayCommitted(client, map[int32]int64{})
	session.Close()
}

func main() {
	orders := map[string]func(address, topic, choice string){
		"admin": admin, "produce": produce, "consume": consume, "transact": transact,
	}
	arguments := append(os.Args, "")
	orders[arguments[1]](arguments[2], arguments[3], arguments[4])
}
