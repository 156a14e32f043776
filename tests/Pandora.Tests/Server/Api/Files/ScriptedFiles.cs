using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;
using Pandora.Fakes;
using Pandora.Tests.Guests;

namespace Pandora.Tests.Api.Files;

/// <summary>A server with one sandbox, whose agent answers requests for files as a test says.</summary>
internal sealed class ScriptedFiles(FakeServer server, string id) : IAsyncDisposable
{
    public FakeServer Server => server;

    public string Address => $"/sandboxes/{id}/files";

    public string Id => id;

    /// <summary>The requests that came, in their order.</summary>
    public List<FileRequest> Requests { get; } = [];

    /// <summary>The streams of the server.</summary>
    public IReadOnlyList<ScriptedStream> Streams { get; private set; } = [];

    /// <param name="answer">Called with each message of the server, and with the request of the stream.</param>
    /// <param name="onLoopback">Whether the web server listens on a real port.</param>
    public static async Task<ScriptedFiles> StartAsync(
        Action<ScriptedStream, FileRequest, FileMessage> answer, bool onLoopback = false)
    {
        var server = await FakeServer.StartAsync(onLoopback: onLoopback);
        var scripted = new ScriptedFiles(server, await server.CreateAsync());
        var requests = new Dictionary<ScriptedStream, FileRequest>();
        var connection = new ScriptedConnection((stream, kind, body) =>
        {
            if ((FileMessage)kind == FileMessage.Request)
            {
                lock (requests)
                {
                    scripted.Requests.Add(requests[stream] = FileRequest.Decode(body));
                }
            }

            FileRequest request;
            lock (requests)
            {
                request = requests[stream];
            }

            answer(stream, request, (FileMessage)kind);
        });
        scripted.Streams = connection.Streams;
        server.Node.GuestOf(scripted.Id).Files = connection;
        return scripted;
    }

    public static FileEntry Entry(string path = "/tmp/file", long size = 10, FileKind kind = FileKind.File) =>
        new(System.Text.Encoding.UTF8.GetBytes(path), kind) { Size = size, Mode = 0b110100100, Inode = 7, ModifiedAt = 1_000_000_000 };

    public async Task<(int Status, string? Code, string? Field)> SendAsync(
        HttpMethod method, string path, string? body = null, params (string Name, string Value)[] headers)
    {
        var answer = await server.SendAsync(method, Address + path, body, headers: headers);
        if (answer.Body.ValueKind != System.Text.Json.JsonValueKind.Object || !answer.Body.TryGetProperty("code", out var code))
        {
            return (answer.Status, null, null);
        }

        var field = answer.Body.TryGetProperty("errors", out var errors) ? errors.EnumerateObject().Single().Name : null;
        return (answer.Status, code.GetString(), field);
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();
}

/// <summary>What an agent says about files.</summary>
internal static class ScriptedFileMessages
{
    public static void Entry(this ScriptedStream stream, FileEntry entry) => stream.Say(FileMessage.Entry, entry.Encode());

    public static void Bytes(this ScriptedStream stream, int count) => stream.Say(FileMessage.Read, new byte[count]);

    public static void Done(this ScriptedStream stream, FileResult? result = null)
    {
        stream.Say(FileMessage.Done, (result ?? new FileResult()).Encode());
        stream.End();
    }

    public static void Refuse(this ScriptedStream stream, FileFailureKind kind, string reason = "a test says so")
    {
        stream.Say(FileMessage.Failed, new FileFailure(kind, reason).Encode());
        stream.End();
    }

    public static void Say(this ScriptedStream stream, FileMessage kind, byte[] body) => stream.Send((ProcessMessage)kind, body);
}
