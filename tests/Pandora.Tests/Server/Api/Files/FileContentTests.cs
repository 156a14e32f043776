using Pandora.Agent.Protocol.Files;

namespace Pandora.Tests.Api.Files;

/// <summary>Lengths that a guest promised and did not keep, and clients that do not read.</summary>
public sealed class FileContentTests
{
    [Theory]
    [InlineData(5)]
    [InlineData(0)]
    public async Task A_file_that_becomes_shorter_cuts_the_connection(int sent)
    {
        await using var files = await ScriptedFiles.StartAsync(
            (stream, _, _) =>
            {
                stream.Entry(ScriptedFiles.Entry(size: 10));
                if (sent > 0)
                {
                    stream.Bytes(sent);
                }

                stream.Done();
            },
            onLoopback: true);
        await Assert.ThrowsAnyAsync<Exception>(() => files.Server.Http.GetByteArrayAsync(files.Address + "?path=/a"));
    }

    [Fact]
    public async Task Bytes_beyond_the_promised_length_are_not_sent()
    {
        await using var files = await ScriptedFiles.StartAsync(
            (stream, _, _) =>
            {
                stream.Entry(ScriptedFiles.Entry(size: 10));
                stream.Flood = FileMessages.Encode(FileMessage.Read, new byte[1000]);
            },
            onLoopback: true);
        Assert.Equal(10, (await files.Server.Http.GetByteArrayAsync(files.Address + "?path=/a")).Length);
        await Fakes.FakeNode.UntilAsync(() => files.Streams[0].IsClosed);
    }

    [Theory]
    [InlineData("?path=/a")]
    [InlineData("/tar?path=/a")]
    [InlineData("/tar?path=/a&compression=gzip")]
    public async Task A_failure_in_the_middle_cuts_the_connection(string path)
    {
        await using var files = await ScriptedFiles.StartAsync(
            (stream, request, _) =>
            {
                if (request.Operation == FileOperation.Read)
                {
                    stream.Entry(ScriptedFiles.Entry(size: 0));
                }

                stream.Bytes(60_000);
                stream.Refuse(FileFailureKind.Guest);
            },
            onLoopback: true);
        await Assert.ThrowsAnyAsync<Exception>(() => files.Server.Http.GetByteArrayAsync(files.Address + path));
    }

    [Fact]
    public async Task A_client_that_does_not_read_makes_the_guest_wait_and_is_cut_after_a_minute()
    {
        await using var files = await ScriptedFiles.StartAsync(
            (stream, _, _) =>
            {
                stream.Entry(ScriptedFiles.Entry(size: 1L << 40));
                stream.Flood = FileMessages.Encode(FileMessage.Read, new byte[60_000]);
            },
            onLoopback: true);
        var (time, patience) = (files.Server.Node.Time, Pandora.Server.Api.Files.FileAnswerWriter.Patience);
        using var answer = await files.Server.Http.GetAsync(files.Address + "?path=/a", HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal(1L << 40, answer.Content.Headers.ContentLength);
        var (taken, waits) = (0L, 0);
        // The kernel's buffers are full when nothing more is taken for a while, and then for twice as long, and so on.
        for (var pause = TimeSpan.FromMilliseconds(50); pause < TimeSpan.FromSeconds(2);)
        {
            await Task.Delay(pause, TimeProvider.System);
            var isSame = waits > 0 && (taken, waits) == (files.Streams[0].BytesRead, time.TimersOf(patience));
            (taken, waits) = (files.Streams[0].BytesRead, time.TimersOf(patience));
            // What they hold, and no more.
            Assert.InRange(taken, 0, 16 * 1024 * 1024);
            pause = isSame ? pause * 2 : TimeSpan.FromMilliseconds(50);
        }

        Assert.False(files.Streams[0].IsClosed);
        waits = 0;
        await Fakes.FakeNode.UntilAsync(() =>
        {
            // Once, or again if the last wait was not for ever.
            if (waits != time.TimersOf(patience))
            {
                waits = time.TimersOf(patience);
                time.Advance(patience + TimeSpan.FromSeconds(1));
            }

            return files.Streams[0].IsClosed;
        });
    }

    [Fact]
    public async Task A_failure_in_the_middle_of_a_body_reaches_a_client_that_still_sends()
    {
        await using var files = await ScriptedFiles.StartAsync(
            (stream, _, message) =>
            {
                if (message == FileMessage.Write && stream.Received.Count == 10)
                {
                    stream.Refuse(FileFailureKind.Full, "No space left on device");
                }
            },
            onLoopback: true);
        for (var i = 0; i < 5; i++)
        {
            using var content = new StreamContent(new MemoryStream(new byte[32 * 1024 * 1024]));
            using var answer = await files.Server.Http.PutAsync(files.Address + "?path=/a", content);
            Assert.Equal(507, (int)answer.StatusCode);
            Assert.Contains("No space left on device", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }
    }
}
