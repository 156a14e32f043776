using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Pandora.Linux;

/// <summary>
/// A process held by a pidfd (pidfd_open(2)), which this server started or found. Its exit is awaited, not polled, and a signal never
/// reaches another process that has the same pid later.
/// </summary>
public sealed class ProcessHandle : IDisposable
{
    private readonly TaskCompletionSource _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly int _pidfd;
    private long _watch;
    private int _disposed;

    private ProcessHandle(int pid, int pidfd, long startTime)
    {
        Pid = pid;
        StartTime = startTime;
        _pidfd = pidfd;
    }

    /// <summary>Process id.</summary>
    public int Pid { get; }

    /// <summary>Start time in clock ticks since boot.</summary>
    public long StartTime { get; }

    /// <summary>Completes when the process has ended. A zombie has ended.</summary>
    public Task Exited => _exited.Task;

    /// <summary>Whether the process has ended, as the kernel says now (poll(2) on the pidfd).</summary>
    public bool HasExited => Exited.IsCompleted || (_disposed == 0 && Libc.IsReadable(_pidfd));

    /// <summary>Opens a handle to a running process.</summary>
    /// <param name="pid">Process id.</param>
    /// <param name="startTime">If given, a process with that pid that started at another time is not opened.</param>
    /// <returns>Null when there is no such process, or only its zombie.</returns>
    /// <exception cref="IOException">It could not be checked, for example because no descriptor is free. The process may still
    /// run.</exception>
    public static ProcessHandle? TryOpen(int pid, long? startTime = null)
    {
        if (Libc.TryPidfdOpen(pid) is not { } pidfd)
        {
            return null;
        }

        (char State, long StartTime)? stat;
        try
        {
            // Read while the pidfd is held: the file in /proc is of the held process, or it does not exist.
            stat = ReadStat(pid);
        }
        catch
        {
            _ = Libc.Close(pidfd);
            throw;
        }

        if (stat is not { State: not ('Z' or 'X') } running || (startTime is not null && running.StartTime != startTime))
        {
            _ = Libc.Close(pidfd);
            return null;
        }

        var handle = new ProcessHandle(pid, pidfd, running.StartTime);
        try
        {
            handle._watch = ExitWatcher.Watch(pidfd, handle._exited);
            return handle;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Opens handles to those of some processes that still run.</summary>
    /// <exception cref="IOException">One of them could not be checked; no handle remains open.</exception>
    [SuppressMessage("Reliability", "CA2000", Justification = "The caller disposes of the handles; on an error they are disposed of here.")]
    public static IReadOnlyList<ProcessHandle> OpenAll(IEnumerable<int> pids)
    {
        ArgumentNullException.ThrowIfNull(pids);
        var opened = new List<ProcessHandle>();
        try
        {
            foreach (var pid in pids)
            {
                if (TryOpen(pid) is { } process)
                {
                    opened.Add(process);
                }
            }

            return opened;
        }
        catch
        {
            opened.ForEach(p => p.Dispose());
            throw;
        }
    }

    /// <summary>Whether a process with that pid and that start time runs. A zombie does not count.</summary>
    /// <exception cref="IOException">It could not be checked, for example because no descriptor is free. The process may still
    /// run.</exception>
    public static bool Exists(int pid, long startTime) =>
        ReadStat(pid) is { State: not ('Z' or 'X') } stat && stat.StartTime == startTime;

    /// <summary>Returns the start time of a process in clock ticks since boot; null when there is no such process.</summary>
    /// <exception cref="IOException">The process could not be checked.</exception>
    public static long? StartTimeOf(int pid) => ReadStat(pid)?.StartTime;

    /// <summary>Sends a signal; nothing happens when the process has ended.</summary>
    public void Kill(int signal = Libc.SigKill)
    {
        if (!Exited.IsCompleted && _disposed == 0)
        {
            _ = Libc.PidfdSendSignal(_pidfd, signal);
        }
    }

    /// <summary>Reads a process's environment; empty when the process has ended, or its environment may not be read.</summary>
    /// <exception cref="IOException">The process could not be checked.</exception>
    public static IReadOnlyList<string> ReadEnvironment(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/environ").Split('\0', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception e) when (IsGone(e) || e is UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            ExitWatcher.Forget(_watch);
            _ = Libc.Close(_pidfd);
        }
    }

    /// <summary>Whether a process's file in /proc could not be read because the process had ended, before or after the file was
    /// opened.</summary>
    internal static bool IsGone(Exception exception) =>
        exception is FileNotFoundException or DirectoryNotFoundException or IOException { HResult: Libc.NoSuchProcess };

    private static (char State, long StartTime)? ReadStat(int pid)
    {
        try
        {
            return ParseStat(File.ReadAllText($"/proc/{pid}/stat"));
        }
        catch (Exception e) when (IsGone(e))
        {
            return null;
        }
        catch (UnauthorizedAccessException e)
        {
            throw new IOException($"the status of process {pid} could not be read: {e.Message}", e);
        }
    }

    // The fields after the command name, which is in parentheses and may contain any character: proc(5).
    private static (char State, long StartTime) ParseStat(string text)
    {
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return (fields[0][0], long.Parse(fields[19], CultureInfo.InvariantCulture));
    }

    /// <summary>
    /// One thread that waits for all pidfds. Each pidfd has a number that is never used again. The descriptor itself may belong to another
    /// process by the time its event is read.
    /// </summary>
    private static unsafe class ExitWatcher
    {
        private static readonly ConcurrentDictionary<long, TaskCompletionSource> Waiting = new();
        private static readonly int Epoll = Start();
        private static long _last;

        // struct epoll_event is packed on x86-64 only: 4 bytes of events, then the data.
        private static int DataOffset => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;

        /// <summary>Completes a source when the process ends. Closing the descriptor ends the watch.</summary>
        /// <returns>The number for <see cref="Forget"/>.</returns>
        public static long Watch(int pidfd, TaskCompletionSource exited)
        {
            var number = Interlocked.Increment(ref _last);
            Waiting[number] = exited;
            var @event = stackalloc byte[16];
            *(uint*)@event = Libc.EpollIn | Libc.EpollOneShot;
            *(long*)(@event + DataOffset) = number;
            if (Libc.EpollControl(Epoll, Libc.EpollCtlAdd, pidfd, @event) != 0)
            {
                var error = Marshal.GetLastPInvokeErrorMessage();
                Forget(number);
                throw new IOException($"a process could not be watched: {error}");
            }

            return number;
        }

        public static void Forget(long number) => Waiting.TryRemove(number, out _);

        private static int Start()
        {
            var epoll = Libc.EpollCreate(0x80000); // EPOLL_CLOEXEC
            new Thread(() => Run(epoll)) { IsBackground = true, Name = "process exits" }.Start();
            return epoll;
        }

        private static void Run(int epoll)
        {
            const int Room = 32;
            var events = stackalloc byte[Room * 16];
            var size = DataOffset + 8;
            while (true)
            {
                var count = Libc.EpollWait(epoll, events, Room, -1);
                for (var i = 0; i < count; i++)
                {
                    if (Waiting.TryRemove(*(long*)(events + (i * size) + DataOffset), out var exited))
                    {
                        exited.TrySetResult();
                    }
                }
            }
        }
    }
}
