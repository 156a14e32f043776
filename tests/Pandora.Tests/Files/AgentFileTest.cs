using System.Diagnostics;
using System.Text;
using Pandora.Agent.Protocol.Files;
using Pandora.Fakes;

namespace Pandora.Tests.Files;

/// <summary>A directory, and an agent that works on it as this process's user.</summary>
public abstract class AgentFileTest : IAsyncDisposable
{
    internal FileTalk Talk { get; } = new();

    internal string Root { get; } = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    internal string PathOf(string name) => $"{Root}/{name}";

    internal FileRequest Request(FileOperation operation, string path) =>
        new(operation, Encoding.UTF8.GetBytes(path.StartsWith('/') ? path : PathOf(path))) { User = AgentFiles.OwnUser };

    internal static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    internal static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    internal static byte[] Random(int count)
    {
        var bytes = new byte[count];
        new Random(7).NextBytes(bytes);
        return bytes;
    }

    internal void AssertNothingLeft(params string[] names) =>
        Assert.Equal(names, Directory.GetFileSystemEntries(Root).Select(p => Path.GetFileName(p)!).Order(StringComparer.Ordinal));

    internal void MakeDeep(string name, int depth)
    {
        // Each is moved into the next, so that no path is too long.
        Directory.CreateDirectory(PathOf(name));
        for (var i = 0; i < depth; i++)
        {
            Directory.CreateDirectory(PathOf("next"));
            Directory.Move(PathOf(name), PathOf("next/d"));
            Directory.Move(PathOf("next"), PathOf(name));
        }
    }

    internal static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }

    internal static async Task WaitUntilAsync(Func<bool> isTrue)
    {
        for (var i = 0; i < 10_000 && !isTrue(); i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }

        Assert.True(isTrue());
    }

    public virtual async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        await Talk.DisposeAsync();
        // Directory.Delete cannot name all that is made here.
        Run("chmod", "-R", "u+rwX", Root);
        Run("rm", "-rf", Root);
    }
}
