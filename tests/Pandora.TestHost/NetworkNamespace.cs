using System.Runtime.InteropServices;

namespace Pandora.TestHost;

/// <summary>A network namespace, entered by one thread at a time: a socket made in it belongs to it for good (setns(2)).</summary>
internal sealed partial class NetworkNamespace(string name)
{
    private const int NetworkKind = 0x40000000; // CLONE_NEWNET

    public string Name => name;

    public string Path => $"/run/netns/{name}";

    public T Run<T>(Func<T> function)
    {
        var result = default(T)!;
        Exception? error = null;
        var thread = new Thread(() =>
        {
            try
            {
                using var handle = File.OpenHandle(Path);
                if (SetNamespace((int)handle.DangerousGetHandle(), NetworkKind) != 0)
                {
                    throw new IOException($"{Path} could not be entered");
                }

                result = function();
            }
            catch (Exception e)
            {
                error = e;
            }
        });
        thread.Start();
        thread.Join();
        return error is null ? result : throw new InvalidOperationException($"in {name}: {error.Message}", error);
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(int fd, int kind);
}
