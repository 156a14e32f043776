using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

// More about memory, which the agent watches in the same way over SSH.
public sealed partial class AgentCommandTests
{
    [Theory]
    [InlineData("user")]
    [InlineData("nobody")]
    public Task A_command_of_another_user_that_fills_the_memory_is_killed_and_says_so(string user) => FillMemoryAsync(user);

    [Fact]
    public async Task Only_the_command_whose_process_was_killed_says_so()
    {
        var beside = Task.WhenAll(
            RunAsync("until [ -e /tmp/go ]; do sleep 0.5; done; echo beside; kill -9 $$"),
            RunAsync("until [ -e /tmp/go ]; do sleep 0.5; done; echo beside; exit 137", As("user")));
        await AssertOutOfMemoryAsync(await RunAsync("tail /dev/zero"), 137);
        await OutputAsync("touch /tmp/go");
        Assert.All(await beside, r =>
            Assert.Equal(("beside\n", 137, false, null), (r.Stdout, r.ExitCode, r.IsOutOfMemory, r.MemoryLimit)));
        // A limit of its own is not the guest's.
        var limited = await RunAsync("ulimit -v 200000; python3 -c 'bytearray(1 << 30)'");
        Assert.Equal((1, false), (limited.ExitCode, limited.IsOutOfMemory));
        Assert.Contains("MemoryError", limited.Stderr);
        var answer = await PostAsync(new { code = "tail /dev/zero", timeout = 120 });
        Assert.Equal(
            ["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms", "oom", "memory_limit_bytes"],
            answer.EnumerateObject().Select(p => p.Name));
        answer = await PostAsync(new { code = "exit 137" });
        Assert.Equal(["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms"], answer.EnumerateObject().Select(p => p.Name));
    }

    [Fact]
    public async Task A_command_that_timed_out_says_that_its_memory_was_full()
    {
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync("tail /dev/zero; echo $?; sleep 600", As(null, 60)));
        Assert.Equal(("137\n", true, CommandStates.Killed), (timeout.Stdout, timeout.IsOutOfMemory, timeout.Command));
        Assert.True(timeout.MemoryLimit > 0);
    }

    [Fact]
    public async Task Memory_that_is_filled_again_and_again_harms_neither_the_sandbox_nor_a_command_beside()
    {
        var beside = OutputAsync("for i in $(seq 20); do sleep 1; done; echo beside", As("user"));
        for (var i = 0; i < 3; i++)
        {
            await AssertOutOfMemoryAsync(await RunAsync("tail /dev/zero & tail /dev/zero & wait; exit 3", As(null)), 3);
        }

        Assert.Equal("beside\n", await beside);
        Assert.Equal("running", (await Sandbox.GetAsync()).State);
    }
}
