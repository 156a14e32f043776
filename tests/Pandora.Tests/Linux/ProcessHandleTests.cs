using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Pandora.Tests.Telemetry;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Tests.Linux;

/// <summary>Only a process that has ended is told as one that is not there.</summary>
[Collection(nameof(Alone))]
public sealed class ProcessHandleTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void One_that_has_ended_and_the_number_of_a_thread_are_no_process()
    {
        using var process = Process.Start("true");
        process.WaitForExit();
        Assert.Null(ProcessHandle.TryOpen(process.Id));
        Assert.False(ProcessHandle.Exists(process.Id, 1));
        var thread = Directory.GetDirectories("/proc/self/task").Select(d => int.Parse(Path.GetFileName(d), CultureInfo.InvariantCulture))
            .First(t => t != Environment.ProcessId);
        Assert.Null(ProcessHandle.TryOpen(thread));
        Assert.Null(ProcessHandle.TryOpen(0));
        Assert.Null(VmmProcess.Find(_directory, "id"));
    }

    [Fact]
    public async Task A_file_that_was_opened_before_its_process_ended_tells_that_it_has()
    {
        using var process = Process.Start("sleep", "60");
        await using var stat = new FileStream($"/proc/{process.Id}/stat", FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        process.Kill();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(ProcessHandle.IsGone(Assert.ThrowsAny<IOException>(() => stat.ReadByte())));
    }

    [Fact]
    public void One_that_cannot_be_seen_for_want_of_descriptors_is_not_said_to_be_dead()
    {
        var pid = Environment.ProcessId;
        var start = ProcessHandle.StartTimeOf(pid)!.Value;
        File.WriteAllText(Path.Combine(_directory, "vmm.pid"), $"{pid}\n");
        ProcessHandle.TryOpen(pid, start)!.Dispose();
        // What earlier tests left to the collector is closed before the lowest free number is looked up.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        ulong free;
        using (var file = File.OpenHandle("/dev/null"))
        {
            free = (ulong)file.DangerousGetHandle();
        }

        // None is left; and one, which the process itself takes, so that its start time cannot be read.
        foreach (var limit in new[] { free, free + 1 })
        {
            var seen = WithDescriptors(limit, () => Record.Exception(() => ProcessHandle.TryOpen(pid, start)));
            Assert.IsAssignableFrom<IOException>(seen);
        }

        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => ProcessHandle.Exists(pid, start))));
        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => ProcessHandle.OpenAll([pid]))));
        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => VmmProcess.Find(_directory, "id"))));
        Assert.True(ProcessHandle.Exists(pid, start));
    }

    private static T WithDescriptors<T>(ulong limit, Func<T> look)
    {
        Assert.Equal(0, GetLimit(OpenFiles, out var before));
        try
        {
            Assert.Equal(0, SetLimit(OpenFiles, before with { Soft = limit }));
            return look();
        }
        finally
        {
            _ = SetLimit(OpenFiles, before);
        }
    }

    private const int OpenFiles = 7; // RLIMIT_NOFILE

    [DllImport("libc", EntryPoint = "getrlimit")]
    private static extern int GetLimit(int resource, out Limits limits);

    [DllImport("libc", EntryPoint = "setrlimit")]
    private static extern int SetLimit(int resource, in Limits limits);

    private record struct Limits(ulong Soft, ulong Hard);
}
