using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Engine.Networking;

/// <summary>One thread that enters slots' network namespaces (setns(2)), works there, and returns to the host's. So no process is started,
/// and every other thread of the server is always in the host's namespace.</summary>
internal sealed partial class NamespaceThread : IDisposable
{
    private const int NetworkKind = 0x40000000; // CLONE_NEWNET
    private readonly BlockingCollection<Action> _work = [];
    private SafeFileHandle? _host;

    public NamespaceThread(string name) => new Thread(Run) { IsBackground = true, Name = name }.Start();

    /// <summary>Runs work in a namespace, after all work that was queued before.</summary>
    /// <exception cref="IOException">The namespace cannot be entered.</exception>
    public Task<T> RunAsync<T>(string namespacePath, Func<T> work) => RunAsync(() => In(namespacePath, work));

    /// <summary>Runs work on the thread, after all work that was queued before. The work may enter namespaces with <see
    /// cref="In"/>.</summary>
    public Task<T> RunAsync<T>(Func<T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        _work.Add(() =>
        {
            try
            {
                done.SetResult(work());
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        return done.Task;
    }

    /// <summary>Ends the thread once all queued work is done.</summary>
    public void Dispose() => _work.CompleteAdding();

    /// <summary>Enters a namespace, runs work there, and returns to the host's. Call it on this thread only.</summary>
    /// <exception cref="IOException">The namespace cannot be entered.</exception>
    public T In<T>(string namespacePath, Func<T> work)
    {
        using (var slot = File.OpenHandle(namespacePath))
        {
            Enter(slot, namespacePath);
        }

        try
        {
            return work();
        }
        finally
        {
            Enter(_host!, "the host's network namespace");
        }
    }

    private static void Enter(SafeFileHandle handle, string name)
    {
        if (SetNamespace((int)handle.DangerousGetHandle(), NetworkKind) != 0)
        {
            throw new IOException($"{name} could not be entered: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    private void Run()
    {
        using var host = _host = File.OpenHandle("/proc/thread-self/ns/net");
        foreach (var work in _work.GetConsumingEnumerable())
        {
            work();
        }
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(int fd, int kind);
}
