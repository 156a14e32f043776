using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Pandora.Load;

/// <summary>What the connections of a flood do once they are open.</summary>
public enum FloodKind
{
    /// <summary>They say nothing.</summary>
    Silent,

    /// <summary>They send the first byte of a request and no more.</summary>
    OneByte,

    /// <summary>They ask for <c>/sandboxes</c> without a key, once, and stay.</summary>
    WithoutKey,
}

/// <summary>
/// Opens connections to a server as fast as it can, shows no key on any of them, and meanwhile asks <c>GET /sandboxes</c> with a key: over
/// and over on one kept connection, and each time on a new one. All of it is done by threads of its own with blocking sockets: the thread
/// pool's load is in no figure, and the threads may be made in a network namespace.
/// </summary>
/// <param name="server">Where the server listens.</param>
/// <param name="key">A key of the server's.</param>
/// <param name="run">Runs an action on a thread of its own and returns when it has ended; null: here. For namespaces, whose sockets have
/// to be made by a thread that has entered them.</param>
public sealed class ConnectionFlood(IPEndPoint server, string key, Action<Action>? run = null)
{
    // A client that has waited so long counts as not answered.
    private const int PatienceMs = 15_000;
    // tcp(7), include/uapi/linux/tcp.h: TCP_SYNCNT. Without it a connect would hang for two minutes where the server's queue is full, and
    // the flood with it.
    private const int TcpSynCount = 7;
    private readonly ConcurrentQueue<string> _failures = [];
    private long _opened;
    private long _failed;

    /// <summary>What the connections do.</summary>
    public FloodKind Kind { get; init; } = FloodKind.Silent;

    /// <summary>Threads that open connections, 1 to 64.</summary>
    public int Threads { get; init; } = 2;

    /// <summary>
    /// Connections that each thread keeps open; the oldest is closed for the next one. Bounded by this process's own descriptors.
    /// </summary>
    public int HeldByThread { get; init; } = 4000;

    /// <summary>Time between two requests of each of the two clients with a key.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromMilliseconds(5);

    /// <summary>
    /// Floods for so long; without <paramref name="isFlooding"/> only the clients with a key do their work, which is what the flood's
    /// figures are compared with.
    /// </summary>
    public async Task<FloodReport> RunAsync(TimeSpan duration, bool isFlooding = true, CancellationToken cancellationToken = default)
    {
        Latencies onNew = new(), onKept = new();
        using var clock = new CancellationTokenSource(duration, TimeProvider.System);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
        var start = Stopwatch.GetTimestamp();
        await Task.WhenAll(
        [
            .. Enumerable.Range(0, isFlooding ? Threads : 0).Select(_ => OnThread(() => Flood(end.Token))),
            OnThread(() => AskOnNew(onNew, end.Token)),
            OnThread(() => AskOnKept(onKept, end.Token)),
        ]);
        return new FloodReport(
            Interlocked.Read(ref _opened), Interlocked.Read(ref _failed), Stopwatch.GetElapsedTime(start),
            onNew.Summarize(), onKept.Summarize(), [.. _failures]);
    }

    private Task OnThread(Action action) => Task.Factory.StartNew(
        () => (run ?? (a => a()))(action), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    [SuppressMessage("Reliability", "CA2000", Justification = "the finally block disposes every socket that is still in the queue")]
    private void Flood(CancellationToken end)
    {
        var held = new Queue<Socket>();
        try
        {
            while (!end.IsCancellationRequested)
            {
                if (held.Count >= HeldByThread)
                {
                    Reset(held.Dequeue());
                }

                if (TryOpen(end) is { } socket)
                {
                    held.Enqueue(socket);
                }
            }
        }
        finally
        {
            foreach (var socket in held)
            {
                Reset(socket);
            }
        }
    }

    private Socket? TryOpen(CancellationToken end)
    {
        var socket = new Socket(server.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            socket.SetRawSocketOption((int)SocketOptionLevel.Tcp, TcpSynCount, BitConverter.GetBytes(1));
            using (end.UnsafeRegister(s => ((Socket)s!).Dispose(), socket))
            {
                socket.Connect(server);
            }

            Interlocked.Increment(ref _opened);
            switch (Kind)
            {
                case FloodKind.OneByte:
                    socket.Send("G"u8);
                    break;
                case FloodKind.WithoutKey:
                    socket.Send("GET /sandboxes HTTP/1.1\r\nHost: localhost\r\n\r\n"u8);
                    break;
            }

            return socket;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Refused, reset or given up: the flood goes on.
            Interlocked.Increment(ref _failed);
            Reset(socket);
            return null;
        }
    }

    private void AskOnNew(Latencies latencies, CancellationToken end) => Repeat(latencies, () =>
    {
        using var socket = Connect();
        Ask(socket, isLast: true);
        // The server closes; a close from here would use up this side's ports.
        while (socket.Receive(new byte[256]) > 0)
        {
        }
    }, end);

    private void AskOnKept(Latencies latencies, CancellationToken end)
    {
        Socket? kept = null;
        try
        {
            Repeat(latencies, () => Ask(kept ??= Connect(), isLast: false), end);
        }
        finally
        {
            kept?.Dispose();
        }
    }

    private void Repeat(Latencies latencies, Action ask, CancellationToken end)
    {
        while (!end.IsCancellationRequested)
        {
            var start = Stopwatch.GetTimestamp();
            try
            {
                ask();
                latencies.Add(Stopwatch.GetElapsedTime(start));
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                _failures.Enqueue($"after {Stopwatch.GetElapsedTime(start).TotalMilliseconds:0} ms: {e.Message}");
                if (_failures.Count >= 20)
                {
                    // It will not get better, and each may take its whole time.
                    return;
                }
            }

            end.WaitHandle.WaitOne(Interval);
        }
    }

    private Socket Connect()
    {
        var socket = new Socket(server.AddressFamily, SocketType.Stream, ProtocolType.Tcp)
        {
            NoDelay = true,
            ReceiveTimeout = PatienceMs,
            SendTimeout = PatienceMs,
        };
        try
        {
            socket.Connect(server);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    // One request, and its answer read to the end, which must be a 200.
    private void Ask(Socket socket, bool isLast)
    {
        var close = isLast ? "Connection: close\r\n" : "";
        socket.Send(Encoding.ASCII.GetBytes($"GET /sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{close}\r\n"));
        var answer = new byte[64 * 1024];
        var length = 0;
        // Minimal APIs write JSON in chunks; the last one is empty.
        while (!answer.AsSpan(0, length).EndsWith("0\r\n\r\n"u8))
        {
            var count = socket.Receive(answer.AsSpan(length));
            if (count == 0)
            {
                throw new IOException($"the connection was closed after {length} bytes of the answer");
            }

            length += count;
        }

        if (!answer.AsSpan(0, length).StartsWith("HTTP/1.1 200 "u8))
        {
            throw new IOException($"answered {Encoding.ASCII.GetString(answer, 0, Math.Min(length, 40))}");
        }
    }

    // Without TIME_WAIT, which would use up the ports.
    private static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It was reset already.
        }

        socket.Dispose();
    }
}

/// <summary>What a flood came to.</summary>
/// <param name="Opened">Connections opened without a key.</param>
/// <param name="Failed">Connections that could not be opened.</param>
/// <param name="Took">How long it went on.</param>
/// <param name="OnNew">Times of requests with a key, each on a new connection, the opening included; null: none was answered.</param>
/// <param name="OnKept">Times of requests with a key on a kept connection; null: none was answered.</param>
/// <param name="Failures">Why requests with a key were not answered with 200, each with the time that it took.</param>
public sealed record FloodReport(
    long Opened, long Failed, TimeSpan Took, LatencySummary? OnNew, LatencySummary? OnKept, IReadOnlyList<string> Failures);
