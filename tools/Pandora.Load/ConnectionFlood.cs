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
    /// <summary>They send nothing.</summary>
    Silent,

    /// <summary>They send the first byte of a request and no more.</summary>
    OneByte,

    /// <summary>They send one <c>GET /sandboxes</c> without a key, and stay open.</summary>
    WithoutKey,
}

/// <summary>
/// Opens connections without a key to a server as fast as it can. Meanwhile two clients with a key send <c>GET /sandboxes</c> repeatedly:
/// one on one kept connection, the other on a new connection each time. Dedicated threads do this with blocking sockets, so that the load
/// of the thread pool does not change the figures, and the threads can enter a network namespace.
/// </summary>
/// <param name="server">The address that the server listens on.</param>
/// <param name="key">An API key of the server.</param>
/// <param name="run">
/// Runs an action on another thread and returns at its end; null runs it on the calling thread. A thread must enter a network namespace to
/// make sockets in it.
/// </param>
public sealed class ConnectionFlood(IPEndPoint server, string key, Action<Action>? run = null)
{
    // A request without an answer for this time counts as not answered.
    private const int PatienceMs = 15_000;
    // TCP_SYNCNT, tcp(7), include/uapi/linux/tcp.h: the number of repeated SYNs. By default a connect hangs for two minutes when the
    // server's queue is full, and the flood would hang with it.
    private const int TcpSynCount = 7;
    private readonly ConcurrentQueue<string> _failures = [];
    private long _opened;
    private long _failed;

    /// <summary>What the connections do once they are open.</summary>
    public FloodKind Kind { get; init; } = FloodKind.Silent;

    /// <summary>Threads that open connections, 1 to 64.</summary>
    public int Threads { get; init; } = 2;

    /// <summary>
    /// Connections that each thread keeps open. At this number the thread closes the oldest one before it opens the next. The descriptors
    /// of this process are the upper limit.
    /// </summary>
    public int HeldByThread { get; init; } = 4000;

    /// <summary>Pause of each client with a key between two requests.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromMilliseconds(5);

    /// <summary>
    /// Floods the server for a time. Without <paramref name="isFlooding"/> only the two clients with a key run, for figures to compare
    /// with.
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
            // The connection was refused, reset or given up. The flood continues.
            Interlocked.Increment(ref _failed);
            Reset(socket);
            return null;
        }
    }

    private void AskOnNew(Latencies latencies, CancellationToken end) => Repeat(latencies, () =>
    {
        using var socket = Connect();
        Ask(socket, isLast: true);
        // Wait until the server closes the connection: the side that closes first keeps the port in TIME_WAIT.
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
                    // Give up: each further request may take the whole time limit.
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

    // Sends one request and reads the whole answer, which must be 200.
    private void Ask(Socket socket, bool isLast)
    {
        var close = isLast ? "Connection: close\r\n" : "";
        socket.Send(Encoding.ASCII.GetBytes($"GET /sandboxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{close}\r\n"));
        var answer = new byte[64 * 1024];
        var length = 0;
        // Minimal APIs write JSON in chunks, and the last chunk is empty.
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

    // Closes a socket with a reset, without TIME_WAIT, so that the ports do not run out.
    private static void Reset(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The connection was already reset.
        }

        socket.Dispose();
    }
}

/// <summary>The result of a flood.</summary>
/// <param name="Opened">Connections opened without a key.</param>
/// <param name="Failed">Connections that could not be opened.</param>
/// <param name="Took">How long the flood lasted.</param>
/// <param name="OnNew">
/// Times of requests with a key, each on a new connection and including its opening; null when none was answered.
/// </param>
/// <param name="OnKept">Times of requests with a key on a kept connection; null when none was answered.</param>
/// <param name="Failures">Reasons why requests with a key were not answered with 200, each with its time.</param>
public sealed record FloodReport(
    long Opened, long Failed, TimeSpan Took, LatencySummary? OnNew, LatencySummary? OnKept, IReadOnlyList<string> Failures);
